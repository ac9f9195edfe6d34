"""Locates mlx, the OpenAI-compatible server of mlx_lm, with the user's model or the built-in tiny one."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

from neo_daemons.config.project import Project
from neo_daemons.definitions import CannotRun, Definition, Launch, Provision, Step
from neo_daemons.extras import pip_install
from neo_daemons.references import escape

from .installed import find_script, installed_version

TINY_MODEL = "tiny-model-1"
"""Its name in the cache; the number changes with the output of `tiny_model`."""
TINY_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
HUB_VARIABLES = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HOME")
"""The variables that determine from where models are fetched, and where they are stored."""
TRIAL_S = 300.0
"""The time limit of a step that takes seconds on an idle machine."""


def is_path(model: str) -> bool:
    """Return whether a model is given by its directory, which the loader has made absolute."""
    return model.startswith("/")


def locate(definition: Definition, project: Project) -> Launch | CannotRun:
    """Find ``mlx_lm.server`` and the model."""
    script = find_script("mlx_lm.server", project)
    if script is None and (sys.platform, platform.machine()) == ("darwin", "x86_64"):
        return CannotRun(
            reason="there is no mlx for Macs with Intel processors",
            remedy="set daemons.mlx.enabled = false, or daemons.mlx.external to the URL of a server elsewhere",
            missing=True,
        )
    if script is None:
        return CannotRun(
            reason="mlx-lm is not installed in this environment, and mlx_lm.server is not on PATH",
            remedy=pip_install("mlx"),
            missing=True,
        )
    model = definition.options.get("model")
    provisions: tuple[Provision, ...] = ()
    note = None
    env = {}
    if model is None:
        provisions = (_tiny_model(project, _interpreter(script)),)
        model = provisions[0].target
        # Compiling kernels for it costs more than it ever saves, and requires g++. Without a cache directory of the
        # hub, the server answers /v1/models with an empty body.
        env = {"MLX_DISABLE_COMPILE": "1", "HF_HUB_CACHE": escape(model)}
        note = "using the built-in tiny model, whose answers are meaningless; set daemons.mlx.model to use a real one"
    elif is_path(model) and not Path(model).is_dir():
        return CannotRun(
            reason=f"the model directory {model} does not exist",
            remedy="set daemons.mlx.model to a model's directory or Hugging Face repository id",
            missing=False,
        )
    elif not is_path(model):
        provisions = (_model_of_hub(model, definition, project, _interpreter(script)),)
    # The model exists locally. Without this, the server would contact the hub at each start, and hang without a reply.
    env["HF_HUB_OFFLINE"] = "1"
    return Launch(
        command=(escape(str(script)), "--model", escape(model), "--host", "${host}", "--port", "${port}"),
        env=env,
        version=installed_version("mlx-lm", script),
        note=note,
        provisions=provisions,
    )


def _interpreter(script: Path) -> str:
    """Return the interpreter that has mlx_lm. It may not have this package, so it runs our scripts by file."""
    beside = (script.parent / "python", script.resolve().parent / "python")
    return str(next((path for path in beside if path.exists()), sys.executable))


def _tiny_model(project: Project, interpreter: str) -> Provision:
    program = (interpreter, str(Path(__file__).with_name("tiny_model.py")))
    return Provision(
        target=str(project.cache / TINY_MODEL),
        steps=(
            Step(title="creating the tiny model", command=(*program, ".")),
            Step(title="testing the tiny model", command=(*program, "--try", "."), timeout_s=TRIAL_S),
        ),
        trial=_check(interpreter, "checking the tiny model"),
        holds=TINY_FILES,
        always_tried=True,
    )


def _check(interpreter: str, title: str) -> Step:
    """Return a step that checks that the files are complete. It takes milliseconds, whatever their size."""
    program = str(Path(__file__).with_name("hub_model.py"))
    return Step(title=title, command=(interpreter, "-IS", program, "check"), timeout_s=TRIAL_S)


def _model_of_hub(model: str, definition: Definition, project: Project, interpreter: str) -> Provision:
    """Return a provision that links to the model's snapshot in the hub's cache when that is complete."""
    program = (interpreter, str(Path(__file__).with_name("hub_model.py")))
    stated = {**project.environ, **definition.env}
    where = [(name, stated[name]) for name in HUB_VARIABLES if name in stated]
    key = hashlib.sha256(repr((model, where)).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return Provision(
        target=str(project.cache / f"hub-{key}"),
        steps=(
            Step(
                title=f"fetching the model {model}",
                command=(*program, "fetch", model, "."),
                # Use the user's setting here, not the server's.
                env={"HF_HUB_OFFLINE": stated.get("HF_HUB_OFFLINE", "0")},
                shows_progress=True,
            ),
        ),
        trial=_check(interpreter, f"checking the model {model}"),
        holds=("model/config.json",),
        always_tried=True,
    )
