"""Find the layers that hold a concept in a text-to-image model, and edit them in closed form."""

__version__ = "0.1.0"
