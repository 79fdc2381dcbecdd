"""Which prompts and seeds choose an edit, and which judge it."""
