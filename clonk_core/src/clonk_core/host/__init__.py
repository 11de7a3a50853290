"""The plugin host: finds plugins, builds one realm per tenant, supervises what runs in it."""
