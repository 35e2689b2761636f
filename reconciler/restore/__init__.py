"""Restore point → plan → cluster."""
