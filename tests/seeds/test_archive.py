"""Snapshots in a file: verified whenever they are written or read."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neo_daemons.seeds import archive, manifest
from neo_daemons.seeds.manifest import File, Manifest, SeedError


def packed(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "a").write_bytes(os.urandom(20_000))
    (data / "b").write_bytes(b"b")
    (data / "link").symlink_to("sub/a")
    contents = manifest.describe(data)
    described = Manifest(
        name="api", daemon="api", files=contents.files, directories=contents.directories, links=contents.links
    )
    archive.pack(data, described, tmp_path / "s.tar.gz")
    return tmp_path / "s.tar.gz"


def test_what_is_unpacked_is_what_was_packed(tmp_path: Path) -> None:
    path = packed(tmp_path)
    archive.unpack(path, tmp_path / "out")
    assert manifest.describe(tmp_path / "out") == manifest.describe(tmp_path / "data")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "out", "s.tar.gz"]
    assert path.stat().st_mode & 0o777 == 0o600


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
    file = File(0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0o600)
    kinds: dict[str, dict[str, Any]] = {
        "files": {"files": {name: file}},
        "directories": {"directories": (name,)},
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
