"""Sessions as others have them: search, export, import."""
