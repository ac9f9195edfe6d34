"""Chaos on the real thing: a real supervisor, real daemons and a load on them, while everything is struck at random.

``python -m tests.chaos --minutes N`` runs it. A seed decides what strikes whom, though not to the millisecond when.
What must hold is checked all the time (`watch`) and when all is quiet again (`audit`).
"""
