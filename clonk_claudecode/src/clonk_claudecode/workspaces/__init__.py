"""The folders that sessions work in, and how much they may hold."""
