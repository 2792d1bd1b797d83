"""What `aion up` finds without a file: against real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from aion_extproc.catalog.build import build
from aion_extproc.config.discover import discover
from aion_extproc.extproc.policy import make_providers

DEMO = "http://127.0.0.1:1/v1"


@contextmanager
def server(answers: Mapping[str, Any]) -> Iterator[int]:
    """A server that has these documents; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in answers
            body = answers[self.path] if known else {"error": "no"}
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_with_nothing_there_the_demo_stands_in_for_all_tiers(closed_port: int) -> None:
    discovery = discover({}, DEMO, {"llama.cpp": closed_port, "ollama": closed_port, "vllm": closed_port})
    assert discovery.demo
    assert discovery.found == ()
    catalog = build(discovery.settings)
    assert [(m.provider, m.id, m.tier) for m in catalog.models] == [
        ("demo", "demo-small", 1),
        ("demo", "demo-medium", 2),
        ("demo", "demo-large", 3),
    ]
    assert not any(model.local for model in catalog.models)
    assert make_providers(discovery.settings)["demo"].authority == "127.0.0.1:1"


def test_keys_in_the_environment_bring_their_models() -> None:
    env = {
        "OPENAI_API_KEY": " sk-o\n",
        "ANTHROPIC_API_KEY": "sk-a",
        "GOOGLE_API_KEY": "g2",
        "XAI_API_KEY": "",
        "MOONSHOT_API_KEY": "  ",
    }
    discovery = discover(env, DEMO, {})
    assert list(discovery.settings.providers) == ["openai", "anthropic", "gemini"]
    assert [where for where, _ in discovery.found] == [
        "OPENAI_API_KEY in the environment",
        "ANTHROPIC_API_KEY in the environment",
        "GOOGLE_API_KEY in the environment",
    ]
    key = discovery.settings.providers["openai"].api_key
    assert key is not None
    assert key.get_secret_value() == "sk-o"
    assert build(discovery.settings).warnings == ()
    assert "sk-a" not in repr(discovery)
    both = discover({"GEMINI_API_KEY": "g1", "GOOGLE_API_KEY": "g2"}, DEMO, {}).settings.providers["gemini"].api_key
    assert both is not None
    assert both.get_secret_value() == "g1"


def test_bedrocks_key_needs_a_region_beside_it() -> None:
    key = {"AWS_BEARER_TOKEN_BEDROCK": "b"}
    assert discover(key, DEMO, {}).demo
    assert discover(key | {"AWS_REGION": "US EAST"}, DEMO, {}).demo
    found = discover(key | {"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1"}, DEMO, {}).settings
    assert make_providers(found)["bedrock"].authority == "bedrock-runtime.eu-west-1.amazonaws.com"
    assert build(found).warnings == ()


def test_azures_key_alone_brings_nothing_for_nobody_knows_the_deployments() -> None:
    assert discover({"AZURE_OPENAI_API_KEY": "k"}, DEMO, {}).demo


def test_local_servers_serve_tier_one_and_come_first() -> None:
    llama = {
        "/v1/models": {"data": [{"id": "qwen.gguf"}]},
        "/props": {"default_generation_settings": {"n_ctx": 4096}},
    }
    ollama = {
        "/api/tags": {
            "models": [
                {"name": "llama3.2:3b", "details": {"family": "llama"}},
                {"name": "nomic-embed-text:latest", "details": {"family": "nomic-bert"}},
            ]
        }
    }
    vllm = {"/v1/models": {"data": [{"id": "org/model", "max_model_len": 32768}]}}
    with server(llama) as a, server(ollama) as b, server(vllm) as c:
        discovery = discover({"OPENAI_API_KEY": "k"}, DEMO, {"llama.cpp": a, "ollama": b, "vllm": c})
        models = build(discovery.settings).models
        assert [(m.provider, m.id, m.tier, m.context_window) for m in models if m.local] == [
            ("llama.cpp", "qwen.gguf", 1, 4096),
            ("ollama", "llama3.2:3b", 1, None),
            ("vllm", "org/model", 1, 32768),
        ]
        assert [m.provider for m in models[:3]] == ["llama.cpp", "ollama", "vllm"]
        assert discovery.found[0] == (f"llama.cpp at 127.0.0.1:{a}", "qwen.gguf")
        assert make_providers(discovery.settings)["ollama"].port == b


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"/v1/models": b"<html>hello</html>", "/api/tags": b"\xff\xfe"},
        {"/v1/models": [], "/api/tags": [1]},
        {"/v1/models": {"data": [{"name": "x"}]}, "/api/tags": {"models": [{"name": None}]}},
        {"/v1/models": {"data": None}, "/api/tags": {"models": {}}},
        {"/v1/models": {"data": [{"id": "has space"}, {"id": 5.5, "max_model_len": "x"}][:1]}},
    ],
)
def test_something_else_on_the_port_is_not_taken_for_a_model_server(answers: Mapping[str, Any]) -> None:
    with server(answers) as port:
        assert discover({}, DEMO, {"llama.cpp": port, "ollama": port, "vllm": port}).demo


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert discover({}, DEMO, {"vllm": silent.getsockname()[1]}).demo
