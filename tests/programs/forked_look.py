"""Forks while a look is under way; both processes look again. The argument is the URL of the server."""

import os
import sys

from neo_daemons.health import HttpObserver, MlxObserver

mlx = MlxObserver(sys.argv[1], timeout_s=0.3)
web = HttpObserver(sys.argv[1], name="web", path="/v1/chat/completions", timeout_s=50)
while mlx.check().status != "unknown":
    pass  # a look had no time, beside whatever load
looking = web.begin()
child = os.fork()
os.write(1, b"forked\n" if child else b"born\n")
sys.stdin.readline()
seen = web.check()
assert seen.status == "healthy", seen
assert mlx.wait_until_ready(50).details.answers
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0)
