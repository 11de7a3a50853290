"""`clonk demo`: the whole way, against a scripted model."""
