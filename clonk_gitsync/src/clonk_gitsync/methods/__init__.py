"""The methods of `gitsync`, by what they are about."""
