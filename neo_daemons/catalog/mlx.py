"""mlx: the OpenAI-compatible server of mlx_lm, with a model of the user's or the built-in tiny one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neo_daemons.definitions import Definition, Launch, Provision, Step, Unavailable
from neo_daemons.references import escape

from .project import Project, find_script, installed_version, pip_install

PORT = 8080
"""mlx_lm.server's own default."""
OPTIONS = {"model": "directory of a model, or its Hugging Face repository id"}
TINY_MODEL = "tiny-model-1"
"""Name in the cache; the number changes with what `tiny_model` makes."""
DOWNLOAD_GRACE_S = 3600.0
"""A repository id may mean a first download of gigabytes."""


def settings(options: Mapping[str, str]) -> dict[str, Any]:
    """Its defaults. ``/health`` says ok before the model has ever answered, so readiness asks for a completion."""
    health = {"type": "http", "path": "/health", "body": '"ok"'}
    completion = {
        "type": "http",
        "path": "/v1/chat/completions",
        "method": "POST",
        "json": {"messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1},
        "body": '"choices"',
        "timeout_s": 60.0,
    }
    from_hub = "model" in options and not is_path(options["model"])
    return {
        "port": "auto",
        "url": "http://${host}:${port}",
        "ready": [health, completion],
        "live": health,
        "start_grace_s": DOWNLOAD_GRACE_S if from_hub else 120.0,
        "exports": {"OPENAI_BASE_URL": "http://${host}:${port}/v1"},
    }


def is_path(model: str) -> bool:
    """Whether a model is named by its directory; the loader has made such a name absolute."""
    return model.startswith("/")


def locate(definition: Definition, project: Project) -> Launch | Unavailable:
    """Find ``mlx_lm.server`` and the model."""
    script = find_script("mlx_lm.server", project)
    if script is None:
        return Unavailable(
            reason="mlx-lm is not installed in this environment, and there is no mlx_lm.server on PATH",
            remedy=pip_install("mlx"),
        )
    model = definition.options.get("model")
    provisions: tuple[Provision, ...] = ()
    note = None
    env = {}
    if model is None:
        target = project.cache / TINY_MODEL
        # By the interpreter that has mlx_lm, which need not be ours; so by file, not by module.
        beside = script.parent / "python"
        interpreter = str(beside) if beside.exists() else sys.executable
        step = Step(
            title="making the tiny model",
            command=(interpreter, str(Path(__file__).with_name("tiny_model.py")), "."),
        )
        provisions = (Provision(target=str(target), steps=(step,)),)
        model = str(target)
        # Compiling kernels for it costs more than it ever saves, and wants a g++. Without a cache directory of the
        # hub the server answers /v1/models with an empty body.
        env = {"MLX_DISABLE_COMPILE": "1", "HF_HUB_CACHE": escape(model)}
        note = "built-in tiny model: its answers are noise; set daemons.mlx.model for a real one"
    elif is_path(model) and not Path(model).is_dir():
        return Unavailable(
            reason=f"the model directory {model} does not exist",
            remedy="set daemons.mlx.model to a model's directory or Hugging Face repository id",
        )
    if is_path(model):
        env["HF_HUB_OFFLINE"] = "1"
    return Launch(
        command=(escape(str(script)), "--model", escape(model), "--host", "${host}", "--port", "${port}"),
        env=env,
        version=installed_version("mlx-lm", script),
        note=note,
        provisions=provisions,
    )
