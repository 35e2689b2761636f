"""Records in Git: what was captured, restored, retired."""
