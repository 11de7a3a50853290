"""Clients of Clonk for Python programs on trio."""
