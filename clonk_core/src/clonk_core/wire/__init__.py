"""Bytes and messages: JSON-RPC, SSE, the strict converter and the table of error numbers. No I/O in this room."""
