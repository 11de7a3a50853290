"""The doors: sockets and standard streams, given a `Dispatch`. Nothing here knows a method."""
