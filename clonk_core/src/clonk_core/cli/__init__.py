"""The command line `clonk`: one file per command."""
