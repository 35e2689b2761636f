"""Decides: what is asked for, and what a restore would do. It writes nothing and knows nothing of `execute`."""
