"""Evaluation of edits: pictures before and after, scored, recognised and counted."""
