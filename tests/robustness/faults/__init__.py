"""
Failing machines: killed commands, full disks, unreadable bases.

Run by hand: `python -m tests.robustness.faults --kills 200`. The tests run a short version.
"""
