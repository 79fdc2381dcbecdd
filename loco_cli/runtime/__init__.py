"""
Running models: the only room that imports diffusers, holds hooks, or draws noise.

Importing it quiets transformers, which else tells everyone that torchvision is not installed.
"""

from transformers.utils import logging

logging.set_verbosity_error()
