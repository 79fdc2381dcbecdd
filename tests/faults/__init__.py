"""
Failing machines: commands that are killed, disks that fill, bases that cannot be read.

Run by hand: `python -m tests.faults --kills 200`. The tests run a short version.
"""
