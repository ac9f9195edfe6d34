"""A project with a daemon of every kind, and what is rendered for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from neo_daemons.config.configuration import load
from neo_daemons.render import TARGETS, render
from neo_daemons.render.stack import Stack

EXPECTED = Path(__file__).parent / "expected"
PROJECT = """
[daemons.chroma]
deploy = { storage = "10Gi" }

[daemons.bridge]
deploy = { image = "registry.example.org/bridge:1", storage = "1Gi", storage_class = "fast" }

[daemons.mlx]
model = "Qwen/Qwen2.5-0.5B-Instruct"
deploy = { server = "vllm", resources = { gpus = 1 } }

[daemons.migrate]
command = ["python", "-m", "api.migrate"]
oneshot = true
requires = ["chroma"]
max_runtime_s = 600
deploy = { image = "ghcr.io/acme/api:1.2" }

[daemons.api]
command = ["uvicorn", "api:app", "--host", "${host}", "--port", "${port}"]
port = "auto"
env = { CHROMA = "${daemons.chroma.url}", LEVEL = "info", PRICE = "5$$ for $$(x)", TOKEN = "${env.TOKEN}" }
ready = { type = "http", path = "/ready", headers = { Accept = "text/plain" } }
live = { type = "http", path = "/live", interval_s = 5, failures = 4, timeout_s = 2 }
requires = [{ name = "chroma", cascade = true }, "migrate", "mlx"]
after = ["bridge", "remote"]
stop = { signal = "SIGINT", grace_s = 20 }
exports = { API_URL = "${url}/v1" }
max_runtime_s = 86400
start = "on-demand"

[daemons.api.deploy]
image = "ghcr.io/acme/api:1.2"
port = 8100
replicas = 2
probe_with = "python3"
resources = { cpu = "500m", memory = "512M" }
env = { TOKEN = { secret = "api", key = "token" } }

[daemons.job_queue]
command = ["queue", "--data", "${data_dir}"]
ports = { main = 5555, admin_HTTP = 5556 }
data_dir = "queue"
ready = [{ type = "tcp" }, { type = "exec", command = ["queue", "ping"] }]
live = { type = "tcp", port = "admin_HTTP" }
restart = "on-failure"
max_rss_bytes = 250_000_000
log = { max_bytes = 100_000, keep = 0 }
watch = ["*.toml"]
deploy = { image = "queue:3", probe_with = "bash", storage = "500Mi", user = 1000, data_dir = "/var/lib/queue" }

[daemons.sync]
command = ["sync"]
requires = ["bridge"]
ready = { type = "log", pattern = "up" }
deploy = { image = "sync:1", command = [] }

[daemons.remote]
external = "https://remote.example.org:8443/x"
exports = { REMOTE = "${url}" }

[daemons.tool]
command = ["tool"]
share = false

[daemons.off]
command = ["off"]
enabled = false
"""


def stack(text: str = PROJECT) -> Stack:
    """The daemons of a configuration."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "neo-daemons.toml"
        file.write_text(text)
        configuration = load(file, observing=True)
    return Stack(
        name="Acme 2",
        root=str(configuration.project.root),
        definitions=configuration.definitions,
        source="neo-daemons.toml",
    )


def renew() -> None:
    """Write what is rendered now to where the tests compare it: ``python -m tests.render.project``."""
    for target in TARGETS:
        for path, text in render(target, stack()).items():
            file = EXPECTED / target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)


if __name__ == "__main__":
    renew()
