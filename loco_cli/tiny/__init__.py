"""
The model that ships: a small Stable Diffusion of a small drawn world.

`world` draws the pictures and words the captions, `training` makes the weights (one documented
command, outside every user's import path), `weights` holds them, with the answer key beside them.
"""
