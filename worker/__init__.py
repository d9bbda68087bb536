"""Runs jobs: a supervisor, above a daemon (the node), above slots (warm processes)."""
