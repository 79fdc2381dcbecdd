"""A model on this machine: where it is, what it is, and what is loaded of it."""
