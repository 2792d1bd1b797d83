"""What stands inside a Messages conversation, as parts of chat messages: thinking, images, documents, server tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aion_extproc.wire.translate.target import ChatTarget
from tests.wire.chat_requests import (
    HI,
    LINK,
    OPENROUTER,
    PDF,
    PNG,
    READ,
    THOUGHTS,
    assistant,
    chat,
    dropped,
    messages,
    refused,
    result,
    text,
    translated,
    use,
    user,
)

# ---- thinking


def test_thinking_is_given_back_in_the_targets_member() -> None:
    turns = [*HI, assistant(*THOUGHTS, text("a")), *HI]
    for target in (ChatTarget(reasoning="reasoning_content"), ChatTarget(reasoning="reasoning")):
        out = translated(target, messages=turns)
        said = json.loads(out.body)["messages"][1]
        assert said == {"role": "assistant", "content": "a", target.reasoning: "first\nthen"}
        assert out.dropped == ("messages[].redacted_thinking",)
    out = translated(OPENROUTER, messages=turns)
    assert json.loads(out.body)["messages"][1]["reasoning_details"] == [
        {"type": "reasoning.text", "text": "first", "signature": "sig", "index": 0},
        {"type": "reasoning.encrypted", "data": "xyz", "index": 1},
        {"type": "reasoning.text", "text": "then", "index": 2},
    ]
    assert out.dropped == ()
    assert translated(messages=turns).dropped == ("messages[].redacted_thinking", "messages[].thinking")


@pytest.mark.parametrize(
    ("members", "effort", "names"),
    [
        ({}, None, ()),
        ({"thinking": {"type": "adaptive"}}, None, ()),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, None, ("thinking.display",)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, "medium", ()),
        ({"output_config": {"effort": "max"}}, "high", ("output_config.effort",)),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 10000}}, "medium", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, "high", ()),
        ({"thinking": {"type": "disabled"}}, None, ()),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, None, ("output_config.effort",)),
        ({"thinking": {"type": "between_tools"}}, None, ()),
    ],
)
def test_thinking_as_reasoning_effort(members: dict[str, Any], effort: str | None, names: tuple[str, ...]) -> None:
    out = translated(ChatTarget(reasoning_effort=True), **members)
    assert json.loads(out.body).get("reasoning_effort") == effort
    assert out.dropped == names


def test_thinking_where_there_is_no_reasoning_effort() -> None:
    both: dict[str, Any] = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}
    assert dropped(**both) == ("output_config.effort", "thinking")
    assert dropped(thinking={"type": "disabled"}) == ()
    picky = ChatTarget(reasoning_effort=True, tools_need_no_reasoning=True)
    out = translated(picky, tools=[READ], **both)
    assert json.loads(out.body)["reasoning_effort"] == "none"
    assert out.dropped == ("output_config.effort", "thinking")
    assert chat(picky, **both)["reasoning_effort"] == "low"
    assert chat(picky, tools=[READ])["reasoning_effort"] == "none"
    assert chat(picky, thinking={"type": "disabled"})["reasoning_effort"] == "none"


def test_an_effort_in_a_system_message_counts_from_the_next_new_input() -> None:
    """https://platform.claude.com/docs/build-with-claude/effort-per-message"""
    low = {"role": "system", "output_config": {"effort": "low"}}
    target, top = ChatTarget(reasoning_effort=True), {"output_config": {"effort": "high"}}

    def effort(*turns: dict[str, Any]) -> Any:
        return chat(target, messages=list(turns), **top)["reasoning_effort"]

    answer = {"role": "assistant", "content": "a"}
    assert effort(*HI, low) == "low"
    assert effort(*HI, answer, low, *HI) == "low"
    assert effort(*HI, assistant(use("1")), low, user(result("1"))) == "high"
    assert effort(*HI, assistant(use("1")), low, user(result("1"), text("x"))) == "low"
    assert effort(*HI, low, answer, *HI) == "low"


# ---- images, documents and what only Anthropic's servers know


def test_images() -> None:
    assert messages(user(LINK))[0]["content"] == [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]
    path = "messages[0].content[1].source"
    no_links = ChatTarget(image_urls=False)
    assert refused(no_links, messages=[user(text("a"), LINK)]) == ("unsupported_content", path)
    stored = {"type": "image", "source": {"type": "file", "file_id": "f"}}
    assert refused(messages=[user(text("a"), stored)]) == ("unsupported_content", path)
    assert refused(messages=[*HI, assistant(PNG)]) == ("unsupported_content", "messages[1].content[0]")


def test_documents() -> None:
    place = "messages[0].content[0].source"
    named = {**PDF, "title": "Report", "context": "of 2026"}
    file = {"filename": "Report.pdf", "file_data": "data:application/pdf;base64,JVBE"}
    assert messages(user(named), target=OPENROUTER)[0]["content"] == [text("of 2026"), {"type": "file", "file": file}]
    assert refused(messages=[user(PDF)]) == ("unsupported_content", place)
    linked = {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}}
    assert refused(OPENROUTER, messages=[user(linked)]) == ("unsupported_content", place)
    plain = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "long"}}
    assert messages(user(plain))[0]["content"] == "T\n\nlong"
    inner = {"type": "document", "source": {"type": "content", "content": [text("a"), PNG]}}
    assert [part["type"] for part in messages(user(inner))[0]["content"]] == ["text", "image_url"]
    found = {"type": "search_result", "title": "T", "source": "https://x.test", "content": [text("a"), text("b")]}
    assert messages(user(found))[0]["content"] == "T\nhttps://x.test\n\na\n\nb"


def test_what_anthropics_servers_did_can_be_read() -> None:
    asked = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "envoy"}}
    page = {"type": "web_search_result", "title": "Envoy", "url": "https://envoy.test", "encrypted_content": "zzz"}
    answered = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [page]}
    said = messages(*HI, assistant(asked, answered, text("a proxy")), *HI)[1]["content"]
    assert said == (
        '[Called web_search with {"query":"envoy"}]\n\n[web_search_tool_result]\nEnvoy\nhttps://envoy.test\n\na proxy'
    )
    fetched = {"type": "web_fetch_tool_result", "tool_use_id": "s", "content": {"type": "web_fetch_result", **PDF}}
    assert dropped(messages=[*HI, assistant(fetched), *HI]) == ("messages[].web_fetch_tool_result",)
    summary = {"type": "compaction", "content": "so far", "encrypted_content": "zz"}
    assert messages(assistant(summary), *HI)[0]["content"] == "so far"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "container_upload", "file_id": "f"},
        {"type": "hologram"},
        {"type": "compaction", "content": None, "encrypted_content": "zz"},
    ],
)
def test_what_cannot_be_said_is_refused(block: dict[str, Any]) -> None:
    assert refused(messages=[user(text("a"), block)]) == ("unsupported_content", "messages[0].content[1]")
