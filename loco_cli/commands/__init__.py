"""
The commands, one file each.

`plan()` checks a request and estimates its cost, `run()` executes the plan.
"""
