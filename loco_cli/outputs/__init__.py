"""The files of an edit, written completely or not at all, and never over the base."""
