"""Pytest fixtures of the testing kit, found by pytest through the `pytest11` entry point."""
