"""The protocols between rooms: who gives what to whom, without saying how."""
