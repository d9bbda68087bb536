"""Shared parts of the scripts, put in front of them by `scripts.py`."""
