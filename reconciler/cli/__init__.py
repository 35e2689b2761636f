"""Verbs: the composition root."""
