"""Numbered SQL files of `claudecode.db`."""
