"""From a recipe and its layers to what is added to each tensor."""
