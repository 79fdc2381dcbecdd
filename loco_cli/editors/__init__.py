"""Closed forms: what new weights should be, given keys, values and a ridge."""
