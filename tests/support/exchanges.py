"""What exchanges are tried with: policies made as a worker makes them, requests, and how to send one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from aion_extproc.accounting.facts import Facts, decode
from aion_extproc.catalog.build import build
from aion_extproc.classify.classifier import Classifier
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.policy import Policy, make_policy
from aion_extproc.extproc.replies import Proceed, Refuse, Reserve
from aion_extproc.extproc.request_exchange import RequestExchange
from tests.support.configs import two_providers
from tests.support.upstream import Upstream

CLASSIFIER = Classifier.load()


def providers(**sections: Any) -> dict[str, Any]:
    return two_providers(Upstream(lambda _: pytest.fail("no network here"), port=9), **sections)


def policy(**sections: Any) -> Policy:
    return policy_of(providers(**sections))


def policy_of(config: dict[str, Any]) -> Policy:
    found = Settings.model_validate(config)
    return make_policy(found, build(found), CLASSIFIER)


OPEN = policy()
UTC = 1_795_305_600.0  # 2026-11-22T00:00:00Z
CHAT_PATH, MESSAGES_PATH = "/v1/chat/completions", "/v1/messages"


def headers(path: str = CHAT_PATH, **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {":method": "POST", ":path": path, ":authority": "localhost", "x-request-id": "id-1"} | named


def body(content: str = "hello", **more: Any) -> bytes:
    return orjson.dumps({"model": "aion-auto", "messages": [{"role": "user", "content": content}]} | more)


def exchange(found: Policy) -> RequestExchange:
    return RequestExchange(found, lambda: 1000.0, lambda: UTC, lambda seconds: None)


def send(found: Policy, sent: dict[str, str], parts: Sequence[bytes], *, trailers: bool = False) -> Proceed | Refuse:
    """The only reply to a request in these parts; everything after it is not sent, as Envoy would not."""
    script = exchange(found)
    early = script.headers(sent, not parts)
    if early is not None:
        return early
    reply: Proceed | Refuse | Reserve | None = None
    for index, part in enumerate(parts, 1):
        reply = script.body(part, index == len(parts) and not trailers)
        if reply is not None:
            break
    else:
        reply = script.body(b"", True)
    assert isinstance(reply, Proceed | Refuse), reply
    return reply


def proceeds(found: Policy, sent: dict[str, str], raw: bytes) -> Proceed:
    reply = send(found, sent, [raw])
    assert isinstance(reply, Proceed), reply
    return reply


def facts_of(reply: Proceed | Refuse) -> Facts:
    return decode(reply.metadata["facts"])
