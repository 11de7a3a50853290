"""Conversation trees for Clonk: every message is a node, every fork a branch."""
