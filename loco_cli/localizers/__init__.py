"""Which runs to make to find a concept, and what their scores say."""
