"""Notes, answers and wake-ups, each from a daemon."""
