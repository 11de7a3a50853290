"""Numbered SQL files that bring `arbor.db` up to date, applied in order by the host."""
