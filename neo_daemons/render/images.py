"""The images that daemons run from: a user's own, and those of the built-in daemons."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from neo_daemons.catalog.chroma import OWN_SETTINGS, variables
from neo_daemons.definitions import Definition, Deploy, HttpProbe
from neo_daemons.references import escape

from . import bridge
from .image import Image
from .stack import Faults

CHROMA = "chromadb/chroma:1.5.9"
"""The version that this program is tested with."""
CHROMA_FILE = "/config.yaml"
"""The configuration file in chroma's image, which it runs by default. Variables come before it."""


class Server(Struct, frozen=True, kw_only=True):
    """An inference server with the API of OpenAI."""

    image: str
    arguments: tuple[str, ...]
    """References: ``${model}`` and the daemon's own."""
    health: str
    """A path that answers 2xx once the model can be asked."""
    models: str
    """Where it keeps models."""
    probe_with: str
    env: Mapping[str, str] = {}
    note: str


SERVERS = {
    "vllm": Server(
        image="vllm/vllm-openai:v0.11.0",
        arguments=("--model", "${model}", "--host", "${host}", "--port", "${port}"),
        health="/health",
        models="/root/.cache/huggingface",
        probe_with="python3",
        note="vLLM fetches the model from Hugging Face; resources.gpus says how many graphics processors it gets",
    ),
    "llama.cpp": Server(
        image="ghcr.io/ggml-org/llama.cpp:server",
        arguments=("-hf", "${model}", "--host", "${host}", "--port", "${port}"),
        health="/health",
        models="/root/.cache/llama.cpp",
        probe_with="curl",
        note="llama.cpp fetches the model from Hugging Face, where it must be in the GGUF format",
    ),
    "ollama": Server(
        image="ollama/ollama:0.12.6",
        arguments=("serve",),
        health="/",
        models="/root/.ollama",
        probe_with="bash",
        env={"OLLAMA_HOST": "${host}:${port}"},
        note="ollama answers before it has a model; fetch it once with: ollama pull MODEL",
    ),
}
"""What runs in place of mlx where there is no Apple silicon."""


def image_of(definition: Definition, faults: Faults) -> Image | None:
    """Return the image of a daemon, or None after adding the error that there is none."""
    deploy = definition.deploy or Deploy()
    builtin = definition.builtin if not definition.command and deploy.command is None else None
    if deploy.server is not None and builtin != "mlx":
        faults.add(definition.name, "deploy.server", "only mlx has another server in its place", "remove it")
    match builtin:
        case "chroma":
            return _chroma(definition, deploy, faults)
        case "mlx":
            return _inference(definition, deploy, faults)
        case "bridge":
            return bridge.image(definition, deploy)
    if deploy.image is None:
        problem = "missing" if definition.builtin is None else f"missing: {definition.name} has no image of its own"
        faults.add(definition.name, "deploy.image", problem, 'set it, e.g. "ghcr.io/me/api:1.0"')
        return None
    command = deploy.command if deploy.command is not None else definition.command
    if not command and deploy.command is None:
        faults.add(definition.name, "deploy.command", "missing", "set it, or [] for what the image runs")
    if deploy.storage is not None and definition.data_dir is None:
        faults.add(definition.name, "deploy.storage", "the daemon has no data", "remove it, or add data_dir")
    return Image(
        name=deploy.image,
        entrypoint=command or None,
        ports=_ports(definition, deploy, faults),
        url=definition.url,
        exports=definition.exports,
        data_dir=deploy.data_dir if definition.data_dir is not None else None,
        ready=definition.ready,
        live=definition.live,
    )


def _ports(definition: Definition, deploy: Deploy, faults: Faults) -> dict[str, int]:
    """Return the numbers of a daemon's ports in its container, which has all of them to itself."""
    stated = dict(deploy.ports)
    if deploy.port is not None:
        if definition.ports:
            stated.setdefault(next(iter(definition.ports)), deploy.port)
        else:
            faults.add(definition.name, "deploy.port", "the daemon has no port", 'remove it, or add port = "auto"')
    for name in stated.keys() - definition.ports.keys() if definition.ports else ():
        known = ", ".join(definition.ports)
        faults.add(definition.name, f"deploy.ports.{name}", "unknown port", f"use one of: {known}")
    found = {}
    for name, port in definition.ports.items():
        number = stated.get(name, port.fixed or port.preferred)
        if number is None:
            key = "deploy.port" if len(definition.ports) == 1 else f"deploy.ports.{name}"
            faults.add(definition.name, key, 'missing: "auto" is chosen on this machine', "set it, e.g. to 8000")
        found[name] = number or 0
    used: dict[int, str] = {}
    for name, number in found.items():
        if number and used.setdefault(number, name) != name:
            faults.add(definition.name, f"deploy.ports.{name}", f"{number} is also {used[number]}", "use another")
    return found


def _chroma(definition: Definition, deploy: Deploy, faults: Faults) -> Image:
    """Chroma's own image: rust/Dockerfile in its repository. It is Debian's, which has bash."""
    arguments: tuple[str, ...] = ("run", "--path", "${data_dir}", "--host", "${host}", "--port", "${port}")
    env: dict[str, str] = {}
    if definition.settings:
        arguments = ("run", CHROMA_FILE)
        env = {**dict(variables(definition.settings)), **OWN_SETTINGS}
    return Image(
        name=deploy.image or CHROMA,
        arguments=arguments,
        env=env,
        ports=_ports(definition, deploy, faults),
        url=definition.url,
        exports=definition.exports,
        data_dir=deploy.data_dir,
        probe_with="bash",
        ready=definition.ready,
        live=definition.live,
        notes=() if deploy.image else ("the image is chroma's own; deploy.image names another, or another version",),
    )


def _inference(definition: Definition, deploy: Deploy, faults: Faults) -> Image | None:
    """An inference server that takes the place of mlx."""
    if deploy.server is None:
        problem = "missing: mlx runs on macOS, and containers run on Linux"
        faults.add(definition.name, "deploy.server", problem, 'set "vllm", "llama.cpp" or "ollama"')
        return None
    server = SERVERS[deploy.server]
    model = definition.options.get("model", "")
    if "${model}" in server.arguments and (not model or model.startswith("/")):
        problem = "is a directory of this machine" if model else f"missing: {deploy.server} has no model of its own"
        faults.add(definition.name, "model", problem, "set it to the id of a repository on Hugging Face")
    health = HttpProbe(path=server.health)
    return Image(
        name=deploy.image or server.image,
        arguments=tuple(escape(model) if text == "${model}" else text for text in server.arguments),
        env=server.env,
        ports=_ports(definition, deploy, faults),
        url=definition.url,
        exports=definition.exports,
        data_dir=server.models if deploy.storage is not None else None,
        probe_with=server.probe_with,
        ready=(health,),
        live=(health,),
        notes=(server.note,) if deploy.storage else (server.note, "deploy.storage keeps models over restarts"),
    )
