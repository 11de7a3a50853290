"""The methods of `claudecode`, by subject; `activation.py` puts them together."""
