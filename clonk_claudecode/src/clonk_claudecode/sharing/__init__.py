"""Sessions seen by several: who watches, what they are shown, and keys given out for one session."""
