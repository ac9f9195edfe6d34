"""Supervisors for sessions, mostly of tests: they run as long as a process holds a lease, and share nothing with
production.

`session` is the file with the supervisor's settings; `supervise` is the supervisor; `launch` starts one; `clear`
removes what dead ones left behind.
"""
