"""Asking an endpoint, a file or a database: what the supervisor's probes and the health observers share.

Nothing here judges what it finds, and nothing here knows supervision, health or configuration.
"""
