"""Content: deduplicated, compressed, encrypted, in a location."""
