"""All SQL of arbor: plain functions, each given the open transaction it works in. One file for each kind of thing."""
