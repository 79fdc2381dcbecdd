"""Localization of concepts: the methods, the search, and the runs that they share."""
