"""Supervisors for sessions, mostly of tests: they run as long as a process holds a lease, and share nothing with
production.

`places` says where sessions are; `session` is the file with the supervisor's settings; `supervise` is the supervisor;
`launch` starts one, or lets one begin that waits in `standby`; `clear` removes what dead ones left behind.
"""
