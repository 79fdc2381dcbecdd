"""The methods that solve for new weights, given a recipe and its layers."""
