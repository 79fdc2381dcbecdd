"""A small DeepFloyd IF of the drawn world: its training and its weights."""
