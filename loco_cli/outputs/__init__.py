"""From a solved edit to files: all of it or nothing, and never over what is read."""
