"""Measurements beside other systems. See README.md."""
