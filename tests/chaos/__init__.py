"""Faults on purpose, and what must hold in spite of them."""
