"""Methods of other activations that are given to a session as tools."""
