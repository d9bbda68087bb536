"""Penstock: a distributed DAG job system on a Redis queue."""
