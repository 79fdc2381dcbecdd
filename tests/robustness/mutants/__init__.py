"""
Mutated code: forty bugs that are planted in the package, one at a time, for the tests to find.

Run by hand: `python -m tests.robustness.mutants`. A test checks that each bug can be planted.
"""
