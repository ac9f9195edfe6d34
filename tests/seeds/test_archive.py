"""Snapshots in a file: verified whenever they are written or read."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neo_daemons.seeds import archive, copying, manifest
from neo_daemons.seeds.manifest import Directory, File, Manifest, SeedError


def packed(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True, exist_ok=True)
    (data / "sub" / "a").write_bytes(os.urandom(20_000))
    (data / "b").write_bytes(b"b")
    (data / "link").symlink_to("sub/a")
    contents = manifest.describe(data)
    described = Manifest(
        name="api", daemon="api", files=contents.files, directories=contents.directories, links=contents.links
    )
    archive.pack(data, described, tmp_path / "s.tar.gz")
    return tmp_path / "s.tar.gz"


def test_what_is_unpacked_is_what_was_packed_with_permissions_and_times(tmp_path: Path) -> None:
    (tmp_path / "data" / "open").mkdir(parents=True)
    (tmp_path / "data" / "open").chmod(0o2755)
    (tmp_path / "data" / "old").write_text("x")
    os.utime(tmp_path / "data" / "old", ns=(1, 1_000_000_007))
    path = packed(tmp_path)
    os.utime(tmp_path / "data" / "open", ns=(1, 2_000_000_007))
    archive.unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "open").stat().st_mode & 0o7777 == 0o2755
    assert (tmp_path / "out" / "old").stat().st_mtime_ns == 1_000_000_007
    os.utime(tmp_path / "data" / "open", ns=(1, (tmp_path / "out" / "open").stat().st_mtime_ns))
    assert manifest.describe(tmp_path / "out") == manifest.describe(tmp_path / "data")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "out", "s.tar.gz"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_holes_stay_holes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "map").open("wb") as file:
        file.write(b"x" * 10)
        file.seek(20_000_000)
        file.write(b"y")
        file.truncate(40_000_000)
    copying.copy_tree(tmp_path / "data", tmp_path / "copy")
    archive.unpack(packed(tmp_path), tmp_path / "out")
    for directory in ("copy", "out"):
        found = (tmp_path / directory / "map").stat()
        assert found.st_size == 40_000_000
        assert found.st_blocks * 512 < 5_000_000
    assert manifest.describe(tmp_path / "copy").files["map"] == manifest.describe(tmp_path / "data").files["map"]


def test_what_a_killed_writer_has_left_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f".s.tar.gz.00000000{archive.UNFINISHED}"
    left.write_text("x")
    verify, seen = archive.verify, []

    def sweep_first(path: Path) -> Manifest:
        archive.sweep(tmp_path)
        seen.append(path.name.endswith(archive.UNFINISHED))
        return verify(path)

    monkeypatch.setattr(archive, "verify", sweep_first)
    packed(tmp_path)
    assert seen == [True]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "s.tar.gz"]


def test_more_files_than_a_manifest_can_hold_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "MAX_BYTES", 500)
    (tmp_path / "data").mkdir()
    for number in range(10):
        (tmp_path / "data" / str(number)).touch()
    with pytest.raises(SeedError, match="has more files than a manifest can hold"):
        manifest.check(tmp_path / "data")
    with pytest.raises(SeedError, match="has more files than a manifest can hold"):
        packed(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["data"]


def test_what_cannot_be_described_is_noticed_without_reading_files(tmp_path: Path) -> None:
    assert not manifest.check(tmp_path)
    (tmp_path / "file").touch(mode=0)
    assert manifest.check(tmp_path)
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(SeedError, match="leads out of the directory, to /etc"):
        manifest.check(tmp_path)


def test_an_error_names_the_file_that_could_not_be_written_and_what_to_do() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/from", None, "/to")
    assert manifest.explain(full, Path("/place")) == "/to: No space left on device; free space there"
    denied = OSError(errno.EACCES, "Permission denied")
    assert manifest.explain(denied, Path("/place")) == "/place: Permission denied; check its owner and permissions"
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/from")
    assert manifest.explain(missing, Path("/place")) == "/from: No such file or directory"


def test_every_truncation_and_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = packed(tmp_path)
    good = path.read_bytes()
    step = len(good) // 60  # the header of gzip, ten bytes, holds nothing
    for position in [*range(10, len(good) - 40, step), *range(len(good) - 40, len(good))]:
        for bad in (good[:position], good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :]):
            path.write_bytes(bad)
            with pytest.raises(SeedError, match="damaged"):
                archive.verify(path)


def test_a_file_that_is_no_snapshot_is_refused_with_its_name(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\x1f\x8b"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(SeedError, match=r"x is damaged, or not a snapshot"):
            archive.read_manifest(tmp_path / "x")


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped"])
@pytest.mark.parametrize("kind", ["files", "directories", "links", "target"])
def test_a_snapshot_writes_nothing_outside_its_directory(tmp_path: Path, name: str, kind: str) -> None:
    file = File(0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0o600, 0)
    kinds: dict[str, dict[str, Any]] = {
        "files": {"files": {name: file}},
        "directories": {"directories": {name: Directory(0o700, 0)}},
        "links": {"links": {name: "b"}},
        "target": {"links": {"a": name}},
    }
    described = Manifest(name="api", daemon="api", **{"files": {}, **kinds[kind]})
    content = msgspec.json.encode(described)
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with pytest.raises(SeedError, match="outside its directory"):
        archive.unpack(tmp_path / "s.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz") as tar:
        for name, content in (
            ("manifest.json", msgspec.json.encode(Manifest(name="api", daemon="api", files={}))),
            ("data/more", b"x"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(SeedError, match="more"):
        archive.verify(tmp_path / "s.tar.gz")
