"""`clonk chat`: a session in the terminal."""
