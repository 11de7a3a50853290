"""Going back and trying again: forks of a session, and rewinds in place."""
