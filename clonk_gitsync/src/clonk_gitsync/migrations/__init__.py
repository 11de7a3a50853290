"""Numbered SQL files that bring `gitsync.db` up to date, applied in order by the host."""
