"""Answers in a form that the caller has asked for."""
