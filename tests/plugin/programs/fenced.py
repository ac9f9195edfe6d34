"""Tests that want to change the production chroma at PORT, with its data in DATA, each in another way."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import httpx
import pytest

PORT, DATA, COLLECTION = int(os.environ["PORT"]), os.environ["DATA"], os.environ["COLLECTION"]
URL = f"http://127.0.0.1:{PORT}/api/v2/tenants/default_tenant/databases/default_database/collections/{COLLECTION}"
PYTHON = f"import urllib.request as r; r.urlopen(r.Request({URL!r}, method='DELETE'), timeout=20)"
SILENT = f"try:\n    {PYTHON}\nexcept Exception:\n    pass"


def delete() -> None:
    httpx.delete(URL, timeout=20)


def test_harmless() -> None:
    assert os.listdir(DATA)


def test_client() -> None:
    import chromadb

    chromadb.HttpClient(host="localhost", port=PORT).delete_collection(COLLECTION)


def test_httpx() -> None:
    delete()


def test_urllib() -> None:
    urllib.request.urlopen(urllib.request.Request(URL, method="DELETE"), timeout=20)


def test_requests() -> None:
    requests = pytest.importorskip("requests")
    requests.delete(URL, timeout=20)


def test_swallowed() -> None:
    with contextlib.suppress(Exception):
        delete()


@pytest.mark.xfail
def test_expected_to_fail() -> None:
    delete()


def test_thread() -> None:
    def run() -> None:
        with contextlib.suppress(Exception):
            delete()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_sqlite() -> None:
    database = sqlite3.connect(f"{DATA}/chroma.sqlite3")
    database.execute("delete from embeddings")
    database.commit()


def test_sqlite_read_only() -> None:
    database = sqlite3.connect(f"file:{DATA}/chroma.sqlite3?mode=ro", uri=True)
    assert database.execute("select count(*) from collections").fetchone() == (1,)
    database.close()


def test_write() -> None:
    with open(f"{DATA}/chroma.sqlite3", "r+b") as file:
        file.write(bytes(100))


def test_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(DATA)
    with open(tmp_path / "link" / "chroma.sqlite3", "r+b") as file:
        file.write(bytes(100))


def test_remove_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(DATA)
    (tmp_path / "link").rename(tmp_path / "other")
    (tmp_path / "other").unlink()
    assert os.listdir(DATA)


def test_remove() -> None:
    os.remove(f"{DATA}/chroma.sqlite3")


def test_rmtree() -> None:
    shutil.rmtree(os.path.dirname(DATA))


def test_rename(tmp_path: Path) -> None:
    os.rename(DATA, tmp_path / "moved")


def test_node() -> None:
    script = f"fetch({URL!r}, {{method: 'DELETE'}}).catch(() => 0)"
    subprocess.run(["node", "-e", script], check=True)


def test_node_file() -> None:
    script = f"try {{ require('fs').unlinkSync({DATA + '/chroma.sqlite3'!r}) }} catch {{}}"
    subprocess.run(["node", "-e", script], check=True)


def test_python_child() -> None:
    subprocess.run([sys.executable, "-c", SILENT], check=True)


def test_fork() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            delete()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.asyncio
async def test_asyncio() -> None:
    async with httpx.AsyncClient() as client:
        await client.delete(URL)


@pytest.mark.asyncio
async def test_asyncio_streams() -> None:
    with pytest.raises(Exception, match="production"):
        await asyncio.open_connection("127.0.0.1", PORT)


@pytest.fixture
def deleted() -> None:
    delete()


def test_in_a_fixture(deleted: None) -> None:
    pass


def test_persistent_client() -> None:
    import chromadb

    chromadb.PersistentClient(DATA).delete_collection("kept")


def test_persistent_client_of_a_child() -> None:
    script = f"import chromadb\ntry: chromadb.PersistentClient({DATA!r})\nexcept Exception: pass"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_persistent_client_elsewhere(tmp_path: Path) -> None:
    import chromadb

    chromadb.PersistentClient(str(tmp_path)).create_collection("mine", embedding_function=None)
