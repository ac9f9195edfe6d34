"""Creates clients that ignore the developer's environment: proxies, certificates, keys, `.env` files."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

    import httpx

TENANT = "default_tenant"
"""chroma's default tenant."""
TIMEOUT_S = 120.0
PREFIXES = ("CHROMA_", "OPENAI_")
CERTIFICATES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})


@contextlib.contextmanager
def plain_environment(*, secure: bool) -> Iterator[None]:
    """Hide the environment variables that clients read when they are created.

    Args:
        secure: keep the variables that name existing certificates, which a server with TLS may need.
    """
    hidden = {name: value for name, value in os.environ.items() if _misleads(name, value, secure=secure)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        for name, value in hidden.items():
            os.environ.setdefault(name, value)


def _misleads(name: str, value: str, *, secure: bool) -> bool:
    upper = name.upper()
    if upper in CERTIFICATES:
        return not (secure and os.path.exists(value))  # noqa: PTH110 - a variable's value, whatever it is
    return upper.endswith("_PROXY") or upper.startswith(PREFIXES) or upper == "SSLKEYLOGFILE"


def make_http(base_url: str) -> httpx.Client:
    """Create an `httpx` client."""
    import httpx

    with plain_environment(secure=is_secure(base_url)):
        return httpx.Client(base_url=base_url, timeout=TIMEOUT_S, trust_env=False, verify=_verification(base_url))


def _verification(url: str) -> ssl.SSLContext | bool:
    if not is_secure(url):  # to create a TLS context takes 18 ms, to import `ssl` 6 ms
        return False
    import ssl

    return ssl.create_default_context()


def is_secure(url: str) -> bool:
    """Return whether a URL uses TLS."""
    return url.startswith("https:")


def make_chroma(host: str, port: int, database: str, *, secure: bool) -> Any:
    """Create a `chromadb` client, without authentication and telemetry.

    Raises:
        ImportError: chromadb is not installed.
    """
    with plain_environment(secure=secure):
        chromadb, settings = _chroma_settings(secure=secure)
        return chromadb.HttpClient(
            host=host, port=port, ssl=secure, settings=settings, tenant=TENANT, database=database, headers=None
        )


async def make_async_chroma(host: str, port: int, database: str, *, secure: bool) -> Any:
    """Create an asynchronous `chromadb` client, without authentication and telemetry, for the running event loop.

    Raises:
        ImportError: chromadb is not installed.
    """
    with plain_environment(secure=secure):  # to the end: it makes the client for HTTP at its first request
        chromadb, settings = _chroma_settings(secure=secure)
        return await chromadb.AsyncHttpClient(
            host=host, port=port, ssl=secure, settings=settings, tenant=TENANT, database=database, headers=None
        )


def _chroma_settings(*, secure: bool) -> tuple[Any, Any]:
    """Return the module chromadb, and its defaults as settings, without the environment."""
    chromadb, settings_class = import_chromadb()

    class Settings(settings_class):  # type: ignore[misc, valid-type]
        """chromadb's defaults and the arguments, without the environment."""

        @classmethod
        def settings_customise_sources(cls, *arguments: Any, init_settings: Any, **sources: Any) -> Any:
            return (init_settings,)

    settings = Settings(anonymized_telemetry=False, **({} if secure else {"chroma_server_ssl_verify": False}))
    if hasattr(settings, "chroma_http_max_keepalive_connections"):
        settings.chroma_http_max_keepalive_connections = 0  # chromadb's close() leaves idle connections open
    return chromadb, settings


def import_chromadb() -> tuple[Any, Any]:
    """Import chromadb. Return the module and its class `Settings`.

    Raises:
        ImportError: it is not installed.
    """
    if "chromadb" in sys.modules:
        import chromadb
        from chromadb.config import Settings
    else:
        with contextlib.chdir("/"):  # on import it reads .env from the working directory, and may reject it
            import chromadb
            from chromadb.config import Settings
    return chromadb, Settings


def make_openai(base_url: str) -> Any:
    """Create an `openai` client; without that package, an `httpx` client with the same base URL."""
    if importlib.util.find_spec("openai") is None:
        return make_http(base_url)
    with plain_environment(secure=is_secure(base_url)):
        import openai

        # openai's own client class, which not every version derives from that of httpx.
        transport = openai.DefaultHttpxClient(trust_env=False, verify=_verification(base_url))
        return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=TIMEOUT_S, http_client=transport)
