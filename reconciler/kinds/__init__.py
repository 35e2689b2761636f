"""The declarative kinds and records, and the loader that says what is wrong and where."""
