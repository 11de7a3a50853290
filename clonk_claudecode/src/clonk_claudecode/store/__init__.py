"""All SQL of `claudecode.db`, by table. Each function is one transaction, or a part of one."""
