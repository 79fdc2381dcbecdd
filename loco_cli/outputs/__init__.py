"""The files of an edit: complete or absent, and never in place of the base."""
