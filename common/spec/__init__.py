"""The words a user writes: models, loading, validation, placeholders, expansion.

All of it is pure: the same file and parameters give the same workflow, without Redis, clock or
chance. Only `functions` leaves the process, to import the user's code in a child of its own.
"""
