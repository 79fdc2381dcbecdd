"""The door: one file per command, each of which parses, calls one workflow and shows the result."""
