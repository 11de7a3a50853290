"""A prompt and its answer as a run: what is shown, what is kept, what is told."""
