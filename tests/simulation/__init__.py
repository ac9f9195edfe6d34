"""The core, unchanged, on a simulated machine: a seed decides everything that happens to it."""
