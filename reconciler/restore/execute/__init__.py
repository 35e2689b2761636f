"""Carries out: a plan under its Lease, once, with its records, and what became of it."""
