"""The control API against its own OpenAPI document: ``python -m tests.contract [EXAMPLES]``.

Schemathesis makes up requests, right and wrong ones, from the document that a real supervisor serves, and checks the
answers against it. What would end the supervisor, or not end itself, is left out: tests/test_control.py has that.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness import PATIENCE_S, PROGRAMS, Project, toy

NOT_CALLED = ("/v1/shutdown", "/v1/leases")


def main() -> int:
    """Schemathesis's own exit code: 0 if no answer contradicts the document."""
    examples = sys.argv[1] if len(sys.argv) > 1 else "100"
    with tempfile.TemporaryDirectory() as directory:
        project = Project(Path(directory))
        project.configure(api=toy(), idle=toy("quiet", enabled=False))
        project.serve("--listen", "0")
        try:
            project.reaches("api", "ready")
            shutil.copy(PROGRAMS / "schemathesis_hooks.py", project.root / "hooks.py")
            url = str(project.client.status().supervisor.url)
            token = project.state.token.read_text().strip()
            command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/v1/openapi.json"]
            command += ["--header", f"Authorization: Bearer {token}", "--max-examples", examples, "--seed", "1"]
            # An empty body is the same as {}: documented, and not what it takes for a violation.
            command += ["--exclude-checks", "negative_data_rejection"]
            for path in NOT_CALLED:
                command += ["--exclude-path", path]
            env = {**project.env, "SCHEMATHESIS_HOOKS": "hooks"}
            code = subprocess.run(command, cwd=project.root, env=env, check=False).returncode
            project.client.order("api", "restart", wait_s=PATIENCE_S)
            assert project.daemon("api").ready, "it works no more"
        finally:
            assert not project.close(), "something is left running"
    return code


if __name__ == "__main__":
    raise SystemExit(main())
