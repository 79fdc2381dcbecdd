"""
Hostile files: every reader of what others wrote is given what no honest program writes.

Run by hand: `python -m tests.fuzz --inputs 100000`. The tests run a short version with hypothesis.
"""
