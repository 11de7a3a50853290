"""Runs: what streaming methods answer with. Numbered logs of events that outlive their readers and the server."""
