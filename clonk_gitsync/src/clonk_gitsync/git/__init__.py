"""Git as Clonk runs it: never with a workspace's own settings, never with a workspace's own remotes."""
