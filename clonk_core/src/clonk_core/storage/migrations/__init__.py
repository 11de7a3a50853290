"""Numbered SQL files of `clonk.db`, the core's own database."""
