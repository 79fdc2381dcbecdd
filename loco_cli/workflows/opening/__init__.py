"""From a name or a path to a model: where it is, what it is, its text encoders, its pipeline."""
