"""Queries endpoints, files and databases, for both the supervisor's probes and the health observers.

This package judges nothing that it finds, and does not know supervision, health or configuration.
"""
