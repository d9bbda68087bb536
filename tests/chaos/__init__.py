"""Faults on purpose, and a checker that reads what happened. `python -m chaos --help`."""
