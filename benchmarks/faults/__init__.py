"""The faults of tests/chaos, brought upon stock RQ, Celery, Dramatiq and Penstock alike."""
