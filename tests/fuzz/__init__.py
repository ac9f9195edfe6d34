"""Hostile input for whatever reads what others write: ``python -m tests.fuzz --minutes N [TARGET…]``.

Each target of `targets` is fed for its share of the time; `tests/test_fuzz.py` feeds each a fixed few inputs.
"""
