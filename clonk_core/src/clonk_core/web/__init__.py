"""Pages for people and small documents for programs, beside `/mcp`."""
