"""How `tiny` was made: `python -m loco_cli.tiny.training --work DIR`."""
