"""Supervisors that live for a session, of tests mostly: as long as somebody holds a lease, with nothing of production.

`session` is what such a supervisor is told, in a file; `supervise` is the supervisor; `launch` starts one and clears
away what dead ones left.
"""
