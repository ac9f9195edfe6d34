"""Paths in a configuration become absolute and real."""

from __future__ import annotations

from pathlib import Path

import msgspec

from neo_daemons.definitions import FileProbe
from neo_daemons.references import expand_all

from .reading import API, only, read


def test_paths_are_absolute_and_real_in_any_working_directory(root: Path, tmp_path: Path) -> None:
    text = """
    state_dir = "link/state"
    [daemons.api]
    command = ["api"]
    cwd = "link"
    data_dir = "${state_dir}/api"
    [daemons.web]
    command = ["web"]
    data_dir = "~/web"
    live = { type = "file", path = "link/beat" }
    [daemons.bridge]
    home = "link/../neo"
    database = "~/graph.sqlite"
    [daemons.mlx]
    model = "./model"
    """
    configuration = read(root, text)
    api, web, bridge, mlx = configuration.definitions
    assert configuration.state.path == root / "real" / "state"
    assert api.cwd == f"{root}/real"
    assert api.data_dir == f"{root}/real/state/api"
    assert web.cwd == str(root)
    assert web.data_dir == f"{tmp_path}/home/web"
    assert web.live == (FileProbe(path=f"{root}/real/beat"),)
    assert bridge.options == {"home": f"{root}/neo", "database": f"{tmp_path}/home/graph.sqlite"}
    assert mlx.options == {"model": f"{root}/model"}


def test_the_state_directory_can_be_a_working_directory_before_it_is_there(root: Path) -> None:
    configuration = read(root, API + 'cwd = "${state_dir}"')
    assert not configuration.state.path.exists()
    assert only(configuration).cwd == str(configuration.state.path)


def test_a_dollar_in_the_projects_path_is_not_a_reference(tmp_path: Path) -> None:
    root = tmp_path / "$HOME" / "${port}"
    root.mkdir(parents=True)
    bridge, api = read(
        root,
        '[daemons.bridge]\ndatabase = "graph"\n' + API + 'live = { type = "file", path = "${name}.beat" }\n'
        'ready = { type = "file", path = "beat" }\nenv = { A = "${project}" }',
    ).definitions
    (live,) = bridge.live
    assert expand_all(live, {"data_dir": "/data"}) == msgspec.structs.replace(
        live, path="/data/wake-daemon/lastSyncId", database=f"{root}/graph"
    )
    assert bridge.data_dir == f"{root}/.neo-daemons/data/bridge"
    assert api.live == (FileProbe(path="${name}.beat"),)
    assert expand_all(api.ready, {}) == (FileProbe(path=f"{root}/beat"),)


def test_a_file_probe_that_begins_with_a_reference_is_left_to_it(root: Path) -> None:
    text = API + 'data_dir = "data"\nlive = { type = "file", path = "${data_dir}/../beat" }'
    assert only(read(root, text)).live == (FileProbe(path="${data_dir}/../beat"),)


def test_a_data_directory_may_exist_or_not(root: Path) -> None:
    assert only(read(root, API + 'data_dir = "real"')).data_dir == f"{root}/real"
    assert only(read(root, API + 'data_dir = "new/er"')).data_dir == f"{root}/new/er"
    assert not (root / "new").exists()


def test_a_model_is_a_path_if_it_looks_like_one_or_exists(root: Path) -> None:
    for stated, model in (
        ("org/name", "org/name"),
        ("real", f"{root}/real"),
        ("../models/x", f"{root.parent}/models/x"),
        ("/models/x", "/models/x"),
    ):
        assert only(read(root, f'[daemons.mlx]\nmodel = "{stated}"')).options == {"model": model}
