"""The drawn world: objects, styles, people and their captions."""
