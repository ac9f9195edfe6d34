"""Uses the clients, and looks at their settings."""

# mypy: ignore-errors

import os


def ask(client):
    messages = [{"role": "user", "content": "hi"}]
    answer = client.chat.completions.create(model="default_model", messages=messages, max_tokens=2)
    assert answer.choices


def test_chroma(chroma_client, chroma):
    notes = chroma_client.create_collection("notes", embedding_function=None)
    notes.add(ids=["1"], embeddings=[[1.0, 2.0]])
    assert notes.count() == 1
    settings = chroma_client.get_settings()
    assert (settings.chroma_server_host, settings.chroma_server_http_port) == (chroma.host, chroma.port)
    assert not settings.chroma_server_headers or "X-Token" not in settings.chroma_server_headers


def test_mlx(mlx_client):
    ask(mlx_client)
    assert str(mlx_client.base_url).startswith("http://127.0.0.1:")
    assert (mlx_client.api_key, mlx_client.organization, mlx_client.project) == ("none", None, None)
    assert "X-Token" not in mlx_client.default_headers
    ask(mlx_client.with_options(timeout=30))


def test_the_tests_own_environment_is_as_it_was():
    assert os.environ["OPENAI_API_KEY"] == "secret"
    assert os.environ["HTTP_PROXY"] == "http://127.0.0.1:9"
