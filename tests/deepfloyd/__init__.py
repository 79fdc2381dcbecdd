"""A small DeepFloyd IF that knows the drawn world: how it was made, and its weights."""
