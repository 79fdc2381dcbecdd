"""The command line: one file per command, to parse options, run the command and print."""
