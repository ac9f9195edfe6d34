"""`neo-daemons render`: what it prints, writes, compares and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from .harness import Project

CONFIG = '[daemons.api]\ncommand = ["api"]\ndeploy = { image = "api:1" }\n'
TWO = CONFIG + '[daemons.web]\ncommand = ["web"]\ndeploy = { image = "web:1" }\n'


@pytest.fixture
def written(project: Project) -> Path:
    """A project whose manifests have been written into `out`."""
    (project.root / "neo-daemons.toml").write_text(TWO)
    assert project.run("render", "kubernetes", "-o", "out").returncode == 0
    return project.root / "out"


def test_one_file_is_printed_as_it_is(project: Project) -> None:
    (project.root / "neo-daemons.toml").write_text(CONFIG)
    printed = project.run("render", "compose")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert project.run("render", "compose", "-o", "out").stdout == "wrote out/compose.yaml\n"
    assert (project.root / "out" / "compose.yaml").read_text() == printed.stdout
    assert {path.name for path in project.root.iterdir()} >= {"neo-daemons.toml", "out"}


def test_several_files_are_printed_each_after_its_name(project: Project) -> None:
    (project.root / "neo-daemons.toml").write_text(TWO)
    printed = project.run("render", "kubernetes").stdout
    assert [line for line in printed.splitlines() if line.startswith("# --- ")] == [
        "# --- kustomization.yaml",
        "# --- api.yaml",
        "# --- web.yaml",
    ]


def test_what_is_written_is_up_to_date_until_something_changes(project: Project, written: Path) -> None:
    checked = project.run("render", "kubernetes", "-o", "out", "--check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert project.run("render", "kubernetes", "-o", "out").stdout == "", "nothing is written again"
    text = (project.root / "neo-daemons.toml").read_text()
    (project.root / "neo-daemons.toml").write_text(text.replace("web:1", "web:2"))
    checked = project.run("render", "kubernetes", "-o", "out", "--check")
    assert checked.returncode == 1
    assert "-          image: web:1\n+          image: web:2\n" in checked.stdout
    assert checked.stderr == "neo-daemons: out is not up to date; render again, without --check\n"
    assert "web:1" in (written / "web.yaml").read_text(), "a check writes nothing"
    assert project.run("render", "kubernetes", "-o", "out").stdout == "wrote out/web.yaml\n"


def test_the_file_of_a_daemon_that_is_gone_is_removed(project: Project, written: Path) -> None:
    (written / "mine.yaml").write_text("mine: true\n")
    (project.root / "neo-daemons.toml").write_text(CONFIG)
    checked = project.run("render", "kubernetes", "-o", "out", "--check")
    assert checked.returncode == 1
    assert "out/web.yaml: nothing is rendered into it any more\n" in checked.stdout
    removed = project.run("render", "kubernetes", "-o", "out")
    assert removed.stdout == (
        "wrote out/kustomization.yaml\nremoved out/web.yaml: nothing is rendered into it any more\n"
    )
    assert sorted(path.name for path in written.iterdir()) == ["api.yaml", "kustomization.yaml", "mine.yaml"]


@pytest.mark.parametrize(
    ("target", "name"), [("compose", "compose.yaml"), ("kubernetes", "api.yaml"), ("kubernetes", "kustomization.yaml")]
)
def test_a_file_that_somebody_else_wrote_is_left_alone(project: Project, target: str, name: str) -> None:
    (project.root / "neo-daemons.toml").write_text(CONFIG)
    (project.root / "out").mkdir()
    (project.root / "out" / name).write_text("mine: true\n")
    refused = project.run("render", target, "-o", "out")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"neo-daemons: out/{name} was not written by neo-daemons; move it away, or choose another directory with -o\n"
    )
    assert [path.name for path in (project.root / "out").iterdir()] == [name], "nothing else was written"
    assert (project.root / "out" / name).read_text() == "mine: true\n"


@pytest.mark.parametrize(("target", "suffix"), [("systemd", ".service"), ("launchd", ".plist")])
def test_the_supervisor_is_rendered_for_a_service_manager(project: Project, target: str, suffix: str) -> None:
    (project.root / "neo-daemons.toml").write_text(CONFIG)
    assert project.run("render", target, "-o", "out").returncode == 0
    (path,) = (project.root / "out").iterdir()
    assert path.suffix == suffix
    assert str(project.root) in path.read_text()
    assert project.run("render", target, "-o", "out", "--check").returncode == 0


def test_wrong_calls_are_one_line(project: Project) -> None:
    (project.root / "neo-daemons.toml").write_text('[daemons.api]\ncommand = ["api"]\n')
    refused = project.run("render", "compose")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"neo-daemons: {project.root}/neo-daemons.toml: daemons.api.deploy.image: missing; "
        'set it, e.g. "ghcr.io/me/api:1.0"\n'
    )
    (project.root / "neo-daemons.toml").write_text(CONFIG)
    unknown = project.run("render", "nomad")
    assert unknown.returncode == 2
    assert "argument TARGET: invalid choice: 'nomad'" in unknown.stderr
    alone = project.run("render", "compose", "--check")
    assert (alone.returncode, alone.stderr) == (
        1,
        "neo-daemons: --check needs the directory to compare with: add -o DIR\n",
    )
    (project.root / "file").touch()
    inside = project.run("render", "compose", "-o", "file")
    assert (inside.returncode, inside.stderr) == (1, "neo-daemons: Not a directory: file/compose.yaml\n")
    (project.root / "neo-daemons.toml").write_text("[daemons.api\n")
    broken = project.run("render", "compose")
    assert broken.returncode == 2
    assert "invalid TOML" in broken.stderr
