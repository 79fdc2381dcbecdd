"""The drawn world: subjects, styles, people, and the captions that tell of them."""
