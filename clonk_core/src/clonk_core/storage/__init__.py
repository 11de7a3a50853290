"""Databases: one SQLite file per package, its migrations, and the data directory they live in."""
