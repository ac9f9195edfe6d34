"""The effect of settings on definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neo_daemons.definitions import Definition, ExecProbe, HttpProbe, Port, Restart, Stop, TcpProbe

from .reading import API, WEB, only, read


def test_a_daemon_with_a_command_has_the_documented_defaults(root: Path) -> None:
    assert only(read(root, API)) == Definition(name="api", command=("api",), cwd=str(root))


def test_a_port_is_fixed_any_or_the_built_in_s_preferred(root: Path) -> None:
    def ports(settings: str) -> dict[str, Port]:
        return only(read(root, f"[daemons.chroma]\n{settings}")).ports

    assert ports("") == {"main": Port(preferred=8000)}
    assert ports("port = 8123") == {"main": Port(fixed=8123)}
    assert ports('port = "auto"') == {"main": Port()}
    assert ports('ports = { http = 8123, admin = "auto" }') == {"http": Port(fixed=8123), "admin": Port()}


def test_the_same_port_may_be_preferred_by_one_and_fixed_for_another(root: Path) -> None:
    chroma, api = read(root, "[daemons.chroma]\n" + API + "port = 8000").definitions
    assert (chroma.ports["main"], api.ports["main"]) == (Port(preferred=8000), Port(fixed=8000))


def test_settings_of_a_built_in_are_overridden_key_by_key(root: Path) -> None:
    standard = only(read(root, "[daemons.neural-link]"))
    text = """
    [daemons.neural-link]
    host = "::1"
    env = { LEVEL = "3" }
    exports = { MINE = "${name}" }
    ready = { type = "exec", command = ["true"] }
    stop = { grace_s = 3 }
    """
    changed = only(read(root, text))
    assert standard.stop == Stop(signal="SIGINT")
    assert changed.stop == Stop(signal="SIGINT", grace_s=3.0)
    assert changed.env == {"LEVEL": "3"}
    assert changed.exports == {**standard.exports, "MINE": "${name}"}
    assert changed.ready == (ExecProbe(command=("true",)),)
    assert (changed.host, changed.live, changed.url) == ("::1", standard.live, "ws://[${host}]:${port}")


def test_an_exported_variable_of_a_built_in_can_be_changed(root: Path) -> None:
    changed = only(read(root, '[daemons.chroma]\nexports = { CHROMA_URL = "http://proxy" }'))
    assert changed.exports == {"CHROMA_HOST": "${host}", "CHROMA_PORT": "${port}", "CHROMA_URL": "http://proxy"}


def test_probes_of_a_built_in_can_be_removed(root: Path) -> None:
    changed = only(read(root, "[daemons.chroma]\nready = []\nlive = []"))
    assert (changed.ready, changed.live) == ((), ())


def test_a_model_from_the_hub_is_fetched_before_the_grace_period_begins(root: Path) -> None:
    here = only(read(root, '[daemons.mlx]\nmodel = "real"'))
    hub = only(read(root, '[daemons.mlx]\nmodel = "org/name"'))
    stated = only(read(root, '[daemons.mlx]\nmodel = "org/name"\nstart_grace_s = 5'))
    assert (here.start_grace_s, hub.start_grace_s, stated.start_grace_s) == (120.0, 120.0, 5.0)


@pytest.mark.parametrize(
    ("setting", "restart"),
    [
        ('"never"', Restart(when="never")),
        ('{ when = "on-failure", limit = 3, window_s = 30 }', Restart(when="on-failure", limit=3, window_s=30.0)),
        ("{}", Restart()),
    ],
)
def test_restart_is_a_word_or_a_table(root: Path, setting: str, restart: Restart) -> None:
    assert only(read(root, f"{API}restart = {setting}")).restart == restart


@pytest.mark.parametrize("setting", ['{ type = "tcp", timeout_s = 1 }', '[{ type = "tcp", timeout_s = 1 }]'])
def test_one_probe_is_the_same_as_a_list_of_it(root: Path, setting: str) -> None:
    definition = only(read(root, f"{API}port = 1\nready = {setting}\nlive = {setting}"))
    assert definition.ready == definition.live == (TcpProbe(timeout_s=1.0),)


def test_several_probes_keep_their_order_and_name_their_ports(root: Path) -> None:
    text = API + 'ports = { a = 1, b = 2 }\nready = [{ type = "tcp", port = "b" }, { type = "http", path = "/x" }]'
    assert only(read(root, text)).ready == (TcpProbe(port="b"), HttpProbe(path="/x"))


@pytest.mark.parametrize(
    "setting",
    [
        'env = { DB = "${daemons.db.url}" }',
        'exports = { DB = "${daemons.db.host}" }',
        'ready = { type = "exec", command = ["ping", "${daemons.db.port}"] }',
        'live = { type = "http", url = "${daemons.db.url}" }',
        'live = { type = "http", url = "http://x", json = { at = ["${daemons.db.ports.main}"] } }',
    ],
)
def test_a_reference_to_another_daemon_implies_after(root: Path, setting: str) -> None:
    db = '[daemons.db]\ncommand = ["db"]\nport = "auto"\n'
    api, _, _ = read(root, f'{API}after = ["web"]\n{setting}\n{WEB}{db}').definitions
    assert api.after == ("web", "db")
    assert api.requires == ()


def test_a_daemon_that_is_stated_and_referred_to_is_named_once(root: Path) -> None:
    api, _ = read(
        root, API + 'after = ["web"]\nenv = { A = "${daemons.web.name}${daemons.web.host}" }\n' + WEB
    ).definitions
    assert api.after == ("web",)


def test_references_to_oneself_and_to_places_are_left_for_later(root: Path) -> None:
    text = API + 'port = 1\ndata_dir = "d"\nenv = { A = "${port}${ports.main}${data_dir}${project}${cache_dir}$$" }'
    definition = only(read(root, text))
    assert definition.env == {"A": "${port}${ports.main}${data_dir}${project}${cache_dir}$$"}
    assert definition.after == ()


def test_an_external_daemon_is_observed_at_its_url(root: Path) -> None:
    url = "https://host:8000/base?price=$1"
    external = only(read(root, f'[daemons.chroma]\nexternal = "{url}"'))
    assert (external.external, external.builtin, external.ports, external.command) == (url, None, {}, ())
    (probe,) = external.live
    assert isinstance(probe, HttpProbe)
    assert probe.url == url.replace("$", "$$")
    assert {200, 404, 499} <= set(probe.status)
    assert not {199, 500} & set(probe.status)


def test_an_external_daemon_can_have_its_own_probes(root: Path) -> None:
    probes = (HttpProbe(url="http://host/health"),)
    for key, other in (("ready", "live"), ("live", "ready")):
        text = f'{key} = {{ type = "http", url = "http://host/health" }}'
        external = only(read(root, f'[daemons.api]\nexternal = "http://host"\n{text}'))
        assert (getattr(external, key), getattr(external, other)) == (probes, ())


def test_the_probes_of_an_external_daemon_ask_it(root: Path) -> None:
    text = '[daemons.api]\nexternal = "http://host:1"\nready = { type = "http", path = "/health" }'
    assert only(read(root, text)).ready == (HttpProbe(url="http://host:1", path="/health"),)


def test_others_can_refer_to_an_external_daemon(root: Path) -> None:
    text = '[daemons.chroma]\nexternal = "http://host"\n' + API + 'env = { URL = "${daemons.chroma.url}" }'
    assert read(root, text).definitions[1].after == ("chroma",)


def test_a_daemon_can_be_disabled_and_starts_can_be_limited(root: Path) -> None:
    configuration = read(root, "parallel = 2\n" + API + "enabled = false")
    assert not only(configuration).enabled
    assert configuration.parallel == 2


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("start_grace_s", "5", 5.0),
        ("max_runtime_s", "0.5", 0.5),
        ("max_rss_bytes", "1_000_000", 1_000_000),
        ("url", '"tcp://${host}"', "tcp://${host}"),
        ("url", '"${env.A}"', "${env.A}"),
        ("host", '"0.0.0.0"', "0.0.0.0"),
        ("host", '"::1"', "::1"),
        ("host", '"my_host.local"', "my_host.local"),
        ("command", '["${env.A}", ""]', ("${env.A}", "")),
        ("env", '{ "a.b-c(x)" = "" }', {"a.b-c(x)": ""}),
        ("requires", '["web"]', ("web",)),
    ],
)
def test_a_setting_arrives_in_the_definition(root: Path, key: str, value: str, expected: Any) -> None:
    command = "" if key == "command" else 'command = ["api"]\n'
    api, _ = read(root, f"[daemons.api]\n{command}{key} = {value}\n{WEB}", A="1").definitions
    assert getattr(api, key) == expected


def test_the_url_of_a_probe_may_have_references_anywhere(root: Path) -> None:
    """It was "not a URL"."""
    url = "http://${host}:${port}/x?${env.A}"
    definition = only(read(root, f'{API}port = "auto"\nready = {{ type = "http", url = "{url}" }}', A="1"))
    assert definition.ready == (HttpProbe(url=url),)


def test_the_environment_is_that_of_the_caller_and_names_the_cache(root: Path) -> None:
    environ = {"NEO_DAEMONS_CACHE_DIR": "cache", "A": "1"}
    configuration = read(root, API, **environ)
    assert configuration.project.environ == environ
    assert configuration.project.cache == Path.cwd() / "cache"
