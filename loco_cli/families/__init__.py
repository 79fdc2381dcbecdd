"""Records of model families and of known models."""
