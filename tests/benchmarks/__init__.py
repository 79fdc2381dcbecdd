"""Measurements, run by hand: `python -m tests.benchmarks.answer_key`; pytest never runs them."""
