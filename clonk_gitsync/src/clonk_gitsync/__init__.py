"""Git synchronisation of session workspaces for Clonk."""
