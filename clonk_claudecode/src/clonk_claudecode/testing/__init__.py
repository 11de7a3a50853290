"""Parts for tests and demonstrations: a scripted stand-in for the Messages API. See scripted_model.py."""
