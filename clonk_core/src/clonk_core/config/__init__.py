"""The configuration: its classes, how it is read from file, environment and flags, and how it is shown."""
