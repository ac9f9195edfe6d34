"""Tests of the health observers."""
