"""Restore point → plan (`plan/`) → cluster (`execute/`); deciding knows nothing of carrying out."""
