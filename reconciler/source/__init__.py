"""Policies from Git: what is desired, what of it is in force, and why."""
