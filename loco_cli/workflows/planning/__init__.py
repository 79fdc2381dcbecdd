"""What a command would do, checked and priced before any model is loaded."""
