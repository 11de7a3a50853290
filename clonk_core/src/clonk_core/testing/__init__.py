"""The testing kit for authors of activations."""
