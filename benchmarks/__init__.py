"""Timed comparisons. Never part of the tests: what is fast on one machine is slow on another."""
