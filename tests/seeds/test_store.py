"""Sealed seeds: whole or absent, verified, cloned, and kept within bounds."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neo_daemons.seeds import manifest
from neo_daemons.seeds.manifest import SeedError
from neo_daemons.seeds.store import Held, Limits, Store
from tests.harness import PATIENCE_S, PROGRAMS

KEY = "0123456789abcdef"
OTHER = "fedcba9876543210"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "index" / "empty").mkdir(parents=True)
    (data / "store.db").write_bytes(b"records" * 1000)
    (data / "index" / "part 1").write_bytes(os.urandom(5000))
    (data / "index" / "part 1").chmod(0o640)
    (data / "latest").symlink_to("index/part 1")
    (data / ".neo-daemons.lock").write_text("daemon api")
    return data


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def seal(store: Store, source: Path, key: str = KEY, name: str = "docs") -> Held:
    with store.building(name):
        return store.seal(source, name=name, key=key, daemon="api", counts={"records": 2}, counted=("records",))


def found(store: Store, key: str = KEY) -> Held:
    held = store.hold("docs", key)
    assert isinstance(held, Held), held
    return held


@pytest.fixture
def sealed(store: Store, source: Path) -> Iterator[Held]:
    held = seal(store, source)
    yield held
    held.close()


def test_a_clone_is_the_sealed_directory_and_changes_nothing_in_it(store: Store, source: Path, sealed: Held) -> None:
    clone = source.parent / "clone"
    assert sealed.clone(clone) in ("copy", "reflink")
    names = sorted(str(path.relative_to(clone)) for path in clone.rglob("*"))
    assert names == ["index", "index/empty", "index/part 1", "latest", "store.db"]
    assert (clone / "latest").read_bytes() == (source / "index" / "part 1").read_bytes()
    assert (clone / "index" / "part 1").stat().st_mode & 0o777 == 0o640
    (clone / "store.db").write_bytes(b"")
    found(store).close()


def test_a_directory_that_is_not_empty_does_not_become_a_clone(source: Path, sealed: Held) -> None:
    with pytest.raises(SeedError, match="cannot clone the seed docs"):
        sealed.clone(source)
    assert (source / "store.db").exists()
    assert sorted(path.name for path in source.parent.iterdir()) == ["cache", "data"]


@pytest.mark.parametrize("damage", ["change", "remove", "add", "manifest", "no manifest"])
def test_a_damaged_seed_is_not_used(store: Store, sealed: Held, damage: str) -> None:
    data, description = sealed.path / "data", sealed.path / "manifest.json"
    match damage:
        case "change":
            (data / "store.db").write_bytes(b"Records" * 1000)
        case "remove":
            (data / "store.db").unlink()
        case "add":
            (data / "more").touch()
        case "manifest":
            description.write_text("{")
        case _:
            description.unlink()
    wrong = store.hold("docs", KEY)
    assert isinstance(wrong, str)
    assert any(word in wrong for word in ("store.db", "more", "manifest.json")), wrong


def test_sealing_again_replaces_a_damaged_seed(store: Store, source: Path, sealed: Held) -> None:
    (sealed.path / "data" / "store.db").unlink()
    seal(store, source).close()
    found(store).close()
    assert sorted(path.name for path in store.root.iterdir()) == ["docs-" + KEY, "docs.lock"]


def test_the_least_recently_used_seed_is_removed_first_and_never_one_in_use(store: Store, source: Path) -> None:
    held = [seal(store, source, f"{number:016x}") for number in range(4)]
    size = held[0].manifest.size
    for age, number in enumerate((2, 0, 3, 1), start=1):  # 1 was used last
        os.utime(held[number].path / "manifest.json", (age, age))
    never = Limits(max_bytes=2 * size, max_age_s=1e12)
    assert store.evict(never) == []
    for number in (0, 2, 3):
        held[number].close()
    assert store.evict(never) == [held[2].path.name, held[0].path.name]
    assert store.evict(Limits(max_bytes=0)) == [held[3].path.name]
    held[1].close()
    assert store.evict(Limits(max_age_s=1e12)) == []
    assert store.evict(Limits(max_age_s=60)) == [held[1].path.name]
    assert [path.name for path in store.root.iterdir()] == ["docs.lock"]


def test_where_exclusive_locks_are_for_writers_a_seed_in_use_stays(
    store: Store, sealed: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:  # as on NFS
        is_read_only = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if operation & fcntl.LOCK_EX and is_read_only:
            raise OSError(errno.EBADF, "Bad file descriptor")
        original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert store.evict(Limits(max_bytes=0)) == []
    sealed.close()
    assert store.evict(Limits(max_bytes=0)) == [sealed.path.name]


def test_a_seed_that_cannot_be_locked_stays(store: Store, sealed: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed.close()

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert store.evict(Limits(max_bytes=0)) == []
    assert sealed.path.is_dir()


def test_a_seed_that_is_built_again_just_before_it_is_locked_stays(
    store: Store, source: Path, sealed: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed.close()
    original, again = fcntl.flock, list[Held]()

    def flock(descriptor: int, operation: int) -> None:
        if not again and operation & fcntl.LOCK_NB:
            monkeypatch.setattr(fcntl, "flock", original)
            again.append(seal(store, source))
        original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert store.evict(Limits(max_bytes=0)) == []
    again[0].close()
    found(store).close()


def test_what_killed_builders_have_left_is_removed_with_old_seeds(store: Store, sealed: Held) -> None:
    for name in (f".gone-{KEY}.partial", f".busy-{KEY}.partial", ".trash-00000000"):
        (store.root / name / "data").mkdir(parents=True)
    with store.building("busy"):
        (store.root / f".busy-{KEY}.partial").mkdir()
        assert store.evict(Limits()) == []
        assert {path.name for path in store.root.glob(".*")} == {f".busy-{KEY}.partial"}
    store.evict(Limits())
    assert not [*store.root.glob(".*")]
    found(store).close()


def test_more_files_than_a_manifest_can_hold_are_not_sealed(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "MAX_BYTES", 300)
    with pytest.raises(SeedError, match="has more files than a manifest can hold"):
        seal(store, source)
    assert [path.name for path in store.root.iterdir()] == ["docs.lock"]


def test_use_makes_a_seed_young(store: Store, sealed: Held) -> None:
    sealed.close()
    os.utime(sealed.path / "manifest.json", (1, 1))
    found(store).close()
    assert store.evict(Limits(max_age_s=3600)) == []


def test_a_builder_of_one_name_leaves_the_work_of_another_alone(store: Store, source: Path) -> None:
    with store.building("docs-big"):
        partial = store.root / f".docs-big-{KEY}.partial"
        partial.mkdir()
        seal(store, source).close()
        assert partial.is_dir()


def test_killed_at_any_file_operation_nothing_half_made_is_used_and_nothing_is_left(
    tmp_path: Path, source: Path
) -> None:
    (tmp_path / "stores").mkdir()
    command = [sys.executable, str(PROGRAMS / "seed_kills.py"), str(tmp_path / "stores"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S * 3, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.fullmatch(r"(\d+) {'absent': (\d+), 'whole': (\d+)}\n", done.stdout)
    assert steps is not None, done.stdout
    assert int(steps[1]) > 50
    assert int(steps[2]) > 10
    assert int(steps[3]) > 5
