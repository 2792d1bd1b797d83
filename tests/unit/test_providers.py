"""Where a request to a provider goes, and what it carries."""

from __future__ import annotations

import pytest

from aion_extproc.config.load import loads
from aion_extproc.extproc.policy import make_providers
from aion_extproc.providers import ALL, KINDS, configure
from aion_extproc.wire.format import Format

OAI, ANT = Format.OPENAI, Format.ANTHROPIC


@pytest.mark.parametrize(
    ("kind", "base_url", "openai", "anthropic"),
    [
        ("openai", None, "/v1/chat/completions", None),
        ("openai", "https://api.openai.com/v1/", "/v1/chat/completions", None),
        ("openai", "https://api.openai.com", "/v1/chat/completions", None),
        ("openai", "https://api.groq.com/openai/v1", "/openai/v1/chat/completions", None),
        ("openai", "https://api.openai.com/v1/chat/completions", "/v1/chat/completions", None),
        ("openai", "https://x.example/openai/deployments/a", "/openai/deployments/a/chat/completions", None),
        ("openai", "https://x.example//v1//", "/v1/chat/completions", None),
        ("anthropic", None, None, "/v1/messages"),
        ("anthropic", "https://api.anthropic.com/", None, "/v1/messages"),
        ("anthropic", "https://api.anthropic.com/v1", None, "/v1/messages"),
        ("anthropic", "https://api.anthropic.com/v1/messages", None, "/v1/messages"),
        ("anthropic", "https://api.deepseek.com/anthropic", None, "/anthropic/v1/messages"),
        ("xai", None, "/v1/chat/completions", None),
        ("openrouter", None, "/api/v1/chat/completions", "/api/v1/messages"),
        ("openrouter", "https://openrouter.ai/api", "/api/v1/chat/completions", "/api/v1/messages"),
        ("openrouter", "https://openrouter.ai", "/api/v1/chat/completions", "/api/v1/messages"),
        ("gemini", None, "/v1beta/openai/chat/completions", None),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta", "/v1beta/openai/chat/completions", None),
        ("minimax", None, "/v1/chat/completions", "/anthropic/v1/messages"),
        ("minimax", "https://api.minimax.io/anthropic", "/v1/chat/completions", "/anthropic/v1/messages"),
        ("minimax", "https://p.corp/mm/v1", "/mm/v1/chat/completions", "/mm/anthropic/v1/messages"),
        ("moonshot", None, "/v1/chat/completions", "/anthropic/v1/messages"),
        ("ollama", None, "/v1/chat/completions", "/v1/messages"),
        ("ollama", "http://box:11434", "/v1/chat/completions", "/v1/messages"),
        ("vllm", "http://gpu:8000/v1", "/v1/chat/completions", "/v1/messages"),
        ("vllm", "http://gpu/team/v1", "/team/v1/chat/completions", "/team/v1/messages"),
        ("local", "http://llama-server:8081/v1", "/v1/chat/completions", "/v1/messages"),
    ],
)
def test_paths_are_those_of_the_api(kind: str, base_url: str | None, openai: str | None, anthropic: str | None) -> None:
    provider = configure("p", KINDS[kind], base_url)
    assert dict(provider.paths) == {f: p for f, p in ((OAI, openai), (ANT, anthropic)) if p}


@pytest.mark.parametrize(
    ("base_url", "tls", "host", "port", "authority"),
    [
        ("https://api.example.com/v1", True, "api.example.com", 443, "api.example.com"),
        ("http://127.0.0.1:8081/v1", False, "127.0.0.1", 8081, "127.0.0.1:8081"),
        ("http://[::1]:9/v1", False, "::1", 9, "[::1]:9"),
        ("http://host:80", False, "host", 80, "host"),
        ("https://Host:8443", True, "host", 8443, "host:8443"),
    ],
)
def test_addresses(base_url: str, tls: bool, host: str, port: int, authority: str) -> None:
    provider = configure("p", KINDS["openai"], base_url)
    assert (provider.tls, provider.host, provider.port, provider.authority) == (tls, host, port, authority)


@pytest.mark.parametrize(
    "base_url",
    [
        "api.example.com/v1",
        "ftp://x",
        "https://",
        "https://u:pw@x/v1",
        "https://x/v1?k=1",
        "https://x/v1#f",
        "http://x:0x1",
        "http://x:99999",
        "https://x/a b",
    ],
)
def test_what_is_no_base_url_is_refused_without_being_repeated(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"^(must|has)") as caught:
        configure("p", KINDS["openai"], base_url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "format", "headers"),
    [
        ("openai", OAI, (("authorization", "Bearer K"),)),
        ("anthropic", ANT, (("x-api-key", "K"),)),
        ("openrouter", ANT, (("authorization", "Bearer K"),)),
        ("moonshot", ANT, (("authorization", "Bearer K"),)),
        ("minimax", ANT, (("x-api-key", "K"),)),
        ("vllm", ANT, (("authorization", "Bearer K"),)),
    ],
)
def test_the_key_travels_as_the_vendor_wants_it(
    kind: str, format: Format, headers: tuple[tuple[str, str], ...]
) -> None:
    provider = configure("p", KINDS[kind], api_key="K", base_url="http://x")
    assert provider.auth_headers(format) == headers
    assert configure("p", KINDS[kind], "http://x").auth_headers(format) == ()


def test_the_anthropic_version_is_there_when_the_client_forgets_it() -> None:
    provider = configure("p", KINDS["anthropic"])
    assert provider.default_headers(ANT) == (("anthropic-version", "2023-06-01"),)
    assert configure("p", KINDS["openai"]).default_headers(OAI) == ()


def test_repr_hides_the_key() -> None:
    assert "s3cret" not in repr(configure("p", KINDS["openai"], api_key="s3cret"))


def test_every_kind_is_whole() -> None:
    for kind in ALL:
        assert kind.bases.keys() == kind.auth.keys()
        assert kind.local is not kind.needs_key or kind.name == "demo"
        if kind.origin:
            assert configure("p", kind, kind.base_url).paths == configure("p", kind).paths


def test_a_managed_server_is_where_it_is_started() -> None:
    settings = loads(
        "providers: {local: {models: [{id: q, tier: 1}], managed: {model_path: m.gguf, port: 8123}}, "
        "openai: {enabled: false}}",
        "x",
        {},
    )
    (local,) = make_providers(settings).values()
    assert (local.name, local.authority, local.path(OAI)) == ("local", "127.0.0.1:8123", "/v1/chat/completions")
