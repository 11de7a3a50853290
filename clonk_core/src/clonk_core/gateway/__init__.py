"""The one door: who calls, may they, and what becomes of it."""
