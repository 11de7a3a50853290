"""Built-in activations, written on the public plugin API like any other."""
