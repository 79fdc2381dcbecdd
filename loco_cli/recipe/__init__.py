"""
Recipes: conversion between YAML and frozen records, and the catalog of recipes.

`load_recipe` in `load.py` parses the text of a file. `read_recipe` in `catalog.py` resolves the
argument of a command: a path, a catalog name, or text.
"""
