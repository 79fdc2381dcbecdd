"""
Hostile files: inputs that no honest program writes, for every reader of foreign files.

Run by hand: `python -m tests.robustness.fuzz --inputs 100000`. The tests run a short version.
"""
