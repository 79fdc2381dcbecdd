"""Weights on disk: what a file holds, where each tensor lives, how an edited copy is written."""
