"""
The models that ship with the package: `tiny` and `tiny-plain`, which draw a small made-up world.

`world` draws the pictures and writes the captions. `training` trains the weights with one command;
no other package imports it. `weights` holds the results and the answer key.
"""
