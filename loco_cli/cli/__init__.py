"""The command line: one file per command, which parses, calls one command room and prints."""
