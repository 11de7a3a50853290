"""Claude Code sessions for Clonk: create, chat, resume."""
