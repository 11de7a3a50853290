"""Checkpoints: the state of a session's files at the end of each turn, kept in the git repository they are in."""
