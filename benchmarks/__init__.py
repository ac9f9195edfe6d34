"""Ours beside its peers, on the same programs and in the same run: ``python -m benchmarks``. No part of the tests."""
