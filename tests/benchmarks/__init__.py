"""
Measurements, run by hand: `python -m tests.benchmarks.answer_key`.

The tests only see that they run.
"""
