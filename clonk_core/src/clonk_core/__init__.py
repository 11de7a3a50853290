"""The Clonk host: finds activations, publishes their methods and serves them on every transport."""
