"""From Python signatures to schemas: inspected into a small tree, rendered as JSON Schema and OpenRPC, and hashed."""
