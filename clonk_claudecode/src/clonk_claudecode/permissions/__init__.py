"""Permissions: who is asked before a tool is used, what they answer, and what is allowed without asking."""
