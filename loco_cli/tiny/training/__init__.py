"""The training of `tiny` and `tiny-plain`: `python -m loco_cli.tiny.training --work DIR`."""
