"""The engine: the binary's processes, spoken to in its protocol; knows nothing of the host's storage."""
