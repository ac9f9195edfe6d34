"""Uses daemons in every way there is."""

# mypy: ignore-errors

import pytest


@pytest.fixture
def built(api):
    raise AssertionError


def test_plain():
    pass


def test_api(api):
    pass


def test_my_api(my_api):
    pass


def test_built(built):
    pass


def test_chroma(chroma):
    pass


def test_chroma_client(chroma_client):
    pass


def test_chroma_database(chroma_database):
    pass


def test_chroma_async_client(chroma_async_client):
    pass


def test_mlx_client(mlx_client):
    pass


def test_bridge_graph(bridge_graph):
    pass


def test_neo_daemons(neo_daemons):
    pass


@pytest.mark.neo_daemons("api")
def test_marked():
    pass


@pytest.mark.neo_daemons("api", isolated=True)
def test_isolated(api):
    pass
