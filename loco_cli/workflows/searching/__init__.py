"""Which layers hold a concept: runs planned, made, scored, kept, and gone on with."""
