"""The ready-made clients, in an environment that is set up for something else."""

from __future__ import annotations

import pytest

from .inner import Inner

pytestmark = pytest.mark.long

PROXIES = {
    name: value
    for scheme, value in (
        ("HTTP", "http://127.0.0.1:9"),
        ("HTTPS", "http://127.0.0.1:9"),
        ("ALL", "socks5://127.0.0.1:9"),
    )
    for name in (f"{scheme}_PROXY", f"{scheme.lower()}_proxy")
}
HOSTILE = {
    **PROXIES,
    "NO_PROXY": "example.org",
    "SSL_CERT_FILE": "/nonexistent/cacert.pem",
    "SSL_CERT_DIR": "/nonexistent",
    "REQUESTS_CA_BUNDLE": "/nonexistent/cacert.pem",
    "CURL_CA_BUNDLE": "/nonexistent/cacert.pem",
    "CHROMA_SERVER_HOST": "db.example.org",
    "CHROMA_SERVER_HTTP_PORT": "8000",
    "CHROMA_SERVER_SSL_ENABLED": "true",
    "CHROMA_SERVER_HEADERS": '{"X-Token": "secret"}',
    "CHROMA_CLIENT_AUTH_PROVIDER": "chromadb.auth.token_authn.TokenAuthClientProvider",
    "CHROMA_API_IMPL": "chromadb.api.async_fastapi.AsyncFastAPI",
    "CHROMA_TENANT": "somebody",
    "CHROMA_DATABASE": "production",
    "ENVIRONMENT": "production",
    "OPENAI_API_KEY": "secret",
    "OPENAI_ADMIN_KEY": "secret",
    "OPENAI_BASE_URL": "https://api.example.org/v1",
    "OPENAI_ORG_ID": "org",
    "OPENAI_PROJECT_ID": "project",
    "OPENAI_CUSTOM_HEADERS": "X-Token: secret",
    "OPENAI_LOG": "debug",
}


@pytest.mark.real
def test_clients_ignore_the_developers_environment(inner: Inner) -> None:
    inner.env |= HOSTILE
    inner.write(".env", "\n".join(f"{name}={value}" for name, value in HOSTILE.items() if name.startswith("CHROMA_")))
    inner.copy("clients.py", "test_clients.py")
    outcome = inner.run("-p", "no:randomly")
    assert outcome.counts() == {"passed": 3}, outcome.text


OWN = """
    import pytest

    @pytest.fixture
    def chroma():
        return {"mine": True}

    @pytest.fixture
    def mlx(mlx):
        return mlx.url

    @pytest.fixture
    def bridge():
        return "golden gate"
"""


@pytest.mark.real
def test_clients_reach_the_daemon_despite_a_project_fixture_of_the_same_name(inner: Inner) -> None:
    inner.write("conftest.py", OWN)
    inner.write(
        "test_own.py",
        """
        def test_mine(chroma, mlx, bridge):
            assert (chroma, bridge) == ({"mine": True}, "golden gate")
            assert mlx.startswith("http://")

        def test_clients(chroma_client, mlx_client):
            assert chroma_client.heartbeat() and mlx_client.models.list()
        """,
    )
    assert inner.run().counts() == {"passed": 2}, inner.output()
    inner.write("conftest.py", OWN.replace("mlx(mlx)", "mlx()").replace("return mlx.url", "return 'http://'"))
    assert inner.run(on=False).counts() == {"passed": 1, "skipped": 1}, inner.output()


def test_a_client_of_an_unconfigured_daemon_says_so_despite_a_project_fixture_of_that_name(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("conftest.py", OWN.replace("mlx(mlx)", "mlx()").replace("return mlx.url", "return 'http://'"))
    inner.write(
        "test_own.py",
        """
        def test_mine(chroma, mlx, bridge): pass
        def test_chroma(chroma_client): pass
        def test_mlx(mlx_client): pass
        def test_bridge(bridge_graph): pass
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1, "error": 3}, outcome.text
    for name in ("chroma", "mlx", "bridge"):
        assert f"unknown daemon '{name}'; configured daemons: api" in outcome.text


@pytest.mark.real
def test_the_chroma_client_leaves_no_descriptor_or_database_behind(inner: Inner) -> None:
    inner.configure(chroma={})
    inner.copy("clients_left.py", "test_client.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 5}, outcome.text
