"""Where a request to a provider goes, and what it carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aion_extproc.catalog.build import build
from aion_extproc.config.load import loads
from aion_extproc.extproc.policy import make_providers
from aion_extproc.providers import ALL, KINDS, anthropic, azure, bedrock, configure, moonshot, openai
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format

FIXTURES = Path(__file__).parents[1] / "fixtures" / "providers"

OAI, ANT = Format.OPENAI, Format.ANTHROPIC
CASES = [
    pytest.param(path.stem, case, id=f"{path.stem}-{index}")
    for path in sorted(FIXTURES.glob("*.json"))
    for index, case in enumerate(json.loads(path.read_text()))
]


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_a_configuration_leads_to_these_addresses(kind: str, case: dict[str, Any]) -> None:
    """Each file of fixtures: what of aion.yaml goes in, and the authority, paths and headers that come out."""
    entry = {"models": [{"id": case["model"], "tier": 1}], **case["config"]}
    settings = loads(json.dumps({"providers": {kind: entry}}), "fixture", {})
    (provider,) = make_providers(settings).values()
    model = case["model"]
    assert (provider.authority, provider.tls) == (case["authority"], case.get("tls", True))
    assert provider.signing == case.get("signing")
    found = {
        endpoint.value: {
            "path": provider.path(endpoint, model),
            "headers": dict([*provider.auth_headers(endpoint.format), *provider.default_headers(endpoint.format)]),
        }
        for endpoint in provider.kind.endpoints
    }
    assert found == case["endpoints"]
    streamed = {name: one["path"] for name, one in case["endpoints"].items()} | case.get("streamed", {})
    assert {e.value: provider.path(e, model, stream=True) for e in provider.kind.endpoints} == streamed
    (entry_model,) = build(settings).models
    assert entry_model.endpoints <= provider.kind.endpoints


def test_every_kind_has_its_fixtures() -> None:
    assert {path.stem for path in FIXTURES.glob("*.json")} == {kind.name for kind in ALL} - {"demo"}


def test_what_is_not_served_has_no_path() -> None:
    with pytest.raises(KeyError):
        configure("p", KINDS["anthropic"]).path(Endpoint.CHAT)
    with pytest.raises(KeyError):
        configure("p", KINDS["bedrock"], "http://x").path(Endpoint.COUNT_TOKENS, "m")


@pytest.mark.parametrize(
    ("kind", "base_url", "chat", "messages"),
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
        ("anthropic", "https://api.anthropic.com/v1/messages/count_tokens", None, "/v1/messages"),
        ("openai", "https://api.openai.com/v1/embeddings", "/v1/chat/completions", None),
        ("deepseek", None, "/chat/completions", "/anthropic/v1/messages"),
        ("deepseek", "https://api.deepseek.com/v1", "/chat/completions", "/anthropic/v1/messages"),
        ("deepseek", "https://api.deepseek.com/anthropic", "/chat/completions", "/anthropic/v1/messages"),
        ("azure", "https://x.openai.azure.com/", "/openai/v1/chat/completions", None),
        ("azure", "https://x.openai.azure.com/openai/v1/", "/openai/v1/chat/completions", None),
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
def test_paths_are_those_of_the_api(kind: str, base_url: str | None, chat: str | None, messages: str | None) -> None:
    provider = configure("p", KINDS[kind], base_url)
    both = {Endpoint.CHAT, Endpoint.MESSAGES}
    served = {endpoint: provider.path(endpoint) for endpoint in both & provider.kind.endpoints}
    expected = {Endpoint.CHAT: chat, Endpoint.MESSAGES: messages}
    assert served == {endpoint: path for endpoint, path in expected.items() if path}


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
        assert kind.bases.keys() == kind.auth.keys() == {endpoint.format for endpoint in kind.endpoints}
        assert kind.local is not kind.needs_key or kind.name == "demo" or kind.signing
        assert kind.place_env.keys() <= set(kind.place)
        if kind.origin and not kind.place:
            assert configure("p", kind, kind.base_url).bases == configure("p", kind).bases


def test_a_managed_server_is_where_it_is_started() -> None:
    settings = loads(
        "providers: {local: {models: [{id: q, tier: 1}], managed: {model_path: m.gguf, port: 8123}}, "
        "openai: {enabled: false}}",
        "x",
        {},
    )
    (local,) = make_providers(settings).values()
    assert (local.name, local.authority) == ("local", "127.0.0.1:8123")
    assert local.path(Endpoint.CHAT) == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("model", "thinking", "effort", "sampling", "json_schema"),
    [
        ("claude-haiku-5-5", "adaptive", True, False, True),
        ("anthropic/claude-opus-5.5", "adaptive", True, False, True),
        ("global.anthropic.claude-opus-4-8-v1:0", "adaptive", True, False, True),
        ("claude-mythos-preview", "adaptive", True, False, True),
        ("claude-sonnet-4-6", "adaptive", True, True, True),
        ("claude-opus-4-5-20251101", "budget", True, True, True),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "budget", False, True, True),
        ("claude-opus-4-1@20250805", "budget", False, True, False),
        ("claude-opus-4-20250514", "budget", False, True, False),
        ("claude-3-7-sonnet-latest", "budget", False, True, False),
        ("claude-3-5-haiku-20241022", "", False, True, False),
    ],
)
def test_what_a_claude_takes_follows_from_its_generation(
    model: str, thinking: str, effort: bool, sampling: bool, json_schema: bool
) -> None:
    target = anthropic.messages(model)
    assert (target.thinking, target.effort, target.sampling, target.json_schema) == (
        thinking, effort, sampling, json_schema,
    )
    assert anthropic.messages(model).image_urls
    assert not bedrock.messages(model).image_urls


@pytest.mark.parametrize(
    ("model", "unthinking", "xhigh", "max_effort", "prefill", "forced", "system"),
    [
        ("claude-haiku-5-5", "disabled", True, True, False, True, True),
        ("anthropic/claude-sonnet-5.5", "between_tools", True, True, False, False, True),
        ("claude-opus-5-5", "", True, True, False, False, True),
        ("claude-fable-5-1", "", True, True, False, False, True),
        ("claude-fable-5", "", True, True, False, True, True),
        ("claude-opus-5", "disabled", True, True, False, True, True),
        ("claude-sonnet-5", "disabled", True, True, False, True, False),
        ("claude-mythos-preview", "", False, True, False, False, False),
        ("claude-opus-4-8", "disabled", True, True, False, True, True),
        ("claude-opus-4-7", "disabled", True, True, False, True, False),
        ("claude-sonnet-4-6", "disabled", False, True, False, True, False),
        ("claude-opus-4-5-20251101", "disabled", False, False, True, True, False),
        ("claude-3-5-haiku-20241022", "", False, True, True, True, False),
    ],
)
def test_what_a_claude_refuses_follows_from_its_generation_and_family(
    model: str, unthinking: str, xhigh: bool, max_effort: bool, prefill: bool, forced: bool, system: bool
) -> None:
    target = anthropic.messages(model)
    assert (target.unthinking, target.xhigh, target.max_effort) == (unthinking, xhigh, max_effort)
    assert (target.prefill, target.forced_tools, target.system_turns) == (prefill, forced, system)
    assert target.checks_thinking
    assert not bedrock.messages(model).system_turns
    assert not anthropic.messages("deepseek/deepseek-v4").checks_thinking


def test_mistral_refuses_what_it_does_not_know() -> None:
    target = KINDS["mistral"].chat("mistral-large-4")
    assert (target.call_ids, target.order, target.user, target.stream_options) == ("nine", "mistral", False, False)


@pytest.mark.parametrize(
    ("model", "limit", "effort", "no_tools"),
    [
        ("gpt-4o-mini", "max_completion_tokens", False, False),
        ("ft:gpt-4.1-mini:org::id", "max_completion_tokens", False, False),
        ("o3-mini", "max_completion_tokens", True, False),
        ("gpt-5.4-nano", "max_completion_tokens", True, False),
        ("gpt-5-chat-latest", "max_completion_tokens", False, False),
        ("gpt-5.6", "max_completion_tokens", True, True),
        ("openai/gpt-6-mini", "max_completion_tokens", True, True),
        ("openai/gpt-oss-120b", "max_tokens", False, False),
        ("qwen2.5-1.5b-instruct", "max_tokens", False, False),
    ],
)
def test_what_an_openai_model_takes_follows_from_its_generation(
    model: str, limit: str, effort: bool, no_tools: bool
) -> None:
    target = openai.chat(model)
    assert (target.max_tokens, target.reasoning_effort, target.tools_need_no_reasoning) == (limit, effort, no_tools)
    assert azure.chat(model).max_tokens == "max_completion_tokens"


def test_what_a_kimi_takes_follows_from_its_generation() -> None:
    assert (moonshot.messages("kimi-k3.1-pro").thinking, moonshot.messages("kimi-k2.6").thinking) == ("", "budget")
    assert moonshot.chat("kimi-k3").reasoning_effort
    assert not moonshot.chat("kimi-k2.6").reasoning_effort


def test_every_kind_says_what_its_models_take() -> None:
    for kind in ALL:
        for model in (*(model.id for model in kind.default_models), "another"):
            assert kind.chat(model).longest_tool_name > 0
            assert kind.messages(model).max_tokens > 0


def test_groks_versions_are_decimals() -> None:
    chat = KINDS["xai"].chat
    assert [chat(f"grok-{v}").reasoning_effort for v in ("4.3", "4.7", "4.20", "4-0709", "5.0")] == [
        True, True, False, False, True,
    ]  # fmt: skip
