"""Pictures and captions to numbers."""
