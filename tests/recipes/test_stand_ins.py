"""Recipes for programs that no package brings here are run with stand-ins, which do what their documentation says.

They show that the recipe fits the documentation, not that the program does.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.harness import PROGRAMS, Project

from .recipe import Recipe

pytestmark = pytest.mark.matrix


def test_ollama(project: Project) -> None:
    recipe = Recipe("ollama", project)
    recipe.put_on_path("ollama", (PROGRAMS / "as_ollama.py").read_text())
    recipe.up("ollama", "model")
    assert json.loads(recipe.get("ollama", "/api/tags")) == {"models": ["qwen3:4b"]}
    recipe.down()


def test_qdrant(project: Project) -> None:
    recipe = Recipe("qdrant", project)
    recipe.put_on_path("qdrant", (PROGRAMS / "as_qdrant.py").read_text())
    recipe.up("qdrant")
    recipe.get("qdrant", "/points", b"remembered")
    recipe.restart("qdrant")
    assert recipe.get("qdrant", "/points") == "remembered"
    recipe.down()
    assert not {"initialized", ".qdrant-initialized", "storage"} & {*os.listdir(project.root)}


class Health(BaseHTTPRequestHandler):
    """vLLM, as far as a probe sees it."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The URL of a server that the project does not run."""
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_vllm_elsewhere(project: Project, elsewhere: str) -> None:
    recipe = Recipe("vllm", project)
    recipe.edit(("http://gpu-box.local:8000", elsewhere))
    project.serve()
    project.client.need("vllm", wait_s=30)
    vllm = project.reaches("vllm", "external")
    assert (vllm.ready, vllm.env["OPENAI_BASE_URL"]) == (True, f"{elsewhere}/v1")
    project.stop()
