"""Application → restore point."""
