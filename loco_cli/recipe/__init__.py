"""
Recipes: YAML to frozen records and back, and the catalog that finds them.

`load_recipe` of `load.py` reads the text of a file, `read_recipe` of `catalog.py` takes whatever a
command was given.
"""
