"""The exchanges without a network: events in, replies out, through the codec that makes Envoy's messages of them."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aion_extproc.extproc.asked import decode_asked
from aion_extproc.extproc.codec import proceed_messages, refuse_message
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import Proceed, Refuse
from aion_extproc.gateway.spec import FALLBACK_CLUSTER
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse, rewrite
from tests.property.documents import requests
from tests.support.configs import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.exchanges import (
    CHAT_PATH,
    MESSAGES_PATH,
    OPEN,
    body,
    exchange,
    facts_of,
    headers,
    policy,
    proceeds,
    send,
)

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
CLIENT_KEY = "aion-key-1"
LIMIT = 4096


LIMITED = policy(gateway={"max_body_bytes": LIMIT})
LOCKED = policy(auth={"keys": [{"key": CLIENT_KEY, "name": "ci", "tenant": "acme"}]})
ASKED = st.sampled_from(["aion-auto", "aion-escalate", "gpt-mid", "claude-mid", "gpt-huge"])


def transmit(reply: Proceed | Refuse) -> list[bytes]:
    """As bytes for Envoy: what cannot be written down fails here."""
    messages = list(proceed_messages(reply)) if isinstance(reply, Proceed) else [refuse_message(reply)]
    return [message.SerializeToString() for message in messages]


# Bodies in pieces


@settings(QUICK, max_examples=100)
@given(raw=requests(ASKED), data=st.data())
def test_a_body_in_pieces_gives_the_reply_that_it_gives_whole(raw: bytes, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([CHAT_PATH, MESSAGES_PATH]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    parts = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    trailers = data.draw(st.booleans())
    whole = send(OPEN, headers(path), [raw])
    assert send(OPEN, headers(path), parts, trailers=trailers) == whole
    transmit(whole)
    if isinstance(whole, Proceed) and whole.clusters[0] == FALLBACK_CLUSTER:
        assert whole.body == raw  # written on its way out
    elif isinstance(whole, Proceed) and Endpoint(facts_of(whole).endpoint).format == facts_of(whole).format:
        ask = facts_of(whole).stream and path == CHAT_PATH
        request = parse(raw, Format(facts_of(whole).format))
        expected = rewrite(request, whole.metadata["model"], ask_usage=ask and not request.wants_usage)
        assert whole.body == expected
        assert whole.metadata["content_length"] == str(len(expected))


def test_pieces_reach_envoy_in_messages_that_grpc_carries() -> None:
    raw = body("é" * 300_000)
    reply = proceeds(OPEN, headers(), raw)
    first, *parts = proceed_messages(reply)
    assert first.request_headers.response.clear_route_cache
    bodies = [part.request_body.response.body_mutation.streamed_response for part in parts]
    assert b"".join(piece.body for piece in bodies) == reply.body
    assert [piece.end_of_stream for piece in bodies] == [False] * (len(bodies) - 1) + [True]
    assert max(len(piece.body) for piece in bodies) <= 1 << 20


@settings(QUICK, max_examples=200)
@given(st.binary(max_size=60) | st.sampled_from([b"", b"[]", body(), body()[:-1]]), st.booleans())
def test_whatever_the_body_is_there_is_one_reply(raw: bytes, trailers: bool) -> None:
    reply = send(OPEN, headers(), [raw], trailers=trailers)
    transmit(reply)
    if isinstance(reply, Refuse):
        assert (reply.status, facts_of(reply).error) == (400, json.loads(reply.body)["error"]["code"])


@pytest.mark.parametrize("path", [CHAT_PATH, MESSAGES_PATH])
@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"\\ud800","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"aion-auto","messages":[{"role":"user","content":"cut \\ud83d"}],"max_tokens":10}',
        b'{"model":"aion-auto","messages":[{"role":"user","content":"\\udc00"}],"max_tokens":99999999999999999999999}',
        b'{"model":"aion-auto","messages":[{"role":"\\ud800","content":"x"}],"max_tokens":18446744073709551615}',
        b'{"model":"aion-auto","messages":[{"role":"user","content":"x"}],"tools":[{"type":["a",{}]}],"max_tokens":1}',
        b'{"model":"gpt\\u0000\\n\\r\\u2028-mid","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"' + b"m" * 100_000 + b'","messages":[{"role":"user","content":"x"}]}',
        '{"model":"modèle-😀","messages":[{"role":"user","content":"x"}]}'.encode(),
    ],
)
def test_odd_texts_can_be_written_down_wherever_they_go(path: str, raw: bytes) -> None:
    reply = send(OPEN, headers(path), [raw])
    transmit(reply)
    if isinstance(reply, Refuse):
        assert reply.status in (400, 404)
        assert len(reply.body) < 2000


# Refusals

REFUSALS: list[tuple[str, Policy, dict[str, str], int, str]] = [
    ("unknown path", OPEN, {":path": "/v1/images"}, 404, "unknown_path"),
    ("below a path", OPEN, {":path": "/v1/messages/x"}, 404, "unknown_path"),
    ("GET", OPEN, {":method": "GET"}, 405, "method_not_allowed"),
    ("no key", LOCKED, {}, 401, "invalid_api_key"),
    ("wrong key", LOCKED, {"authorization": "Bearer nobody"}, 401, "invalid_api_key"),
    ("wrong x-api-key", LOCKED, {"x-api-key": "nobody"}, 401, "invalid_api_key"),
    ("no scheme", LOCKED, {"authorization": CLIENT_KEY}, 401, "invalid_api_key"),
    ("key that is no UTF-8", LOCKED, {"x-api-key": "\udcff"}, 401, "invalid_api_key"),
    ("compressed", OPEN, {"content-encoding": "gzip"}, 415, "unsupported_encoding"),
    ("length over the limit", LIMITED, {"content-length": str(LIMIT + 1)}, 413, "body_too_large"),
]


@pytest.mark.parametrize("path", [CHAT_PATH, MESSAGES_PATH])
@pytest.mark.parametrize("case", REFUSALS, ids=[case[0] for case in REFUSALS])
def test_a_refusal_by_headers_comes_before_the_body(
    path: str, case: tuple[str, Policy, dict[str, str], int, str]
) -> None:
    _, found, more, status, code = case
    reply = exchange(found).headers(headers(path) | more, False)
    assert isinstance(reply, Refuse)
    check_refusal(reply, status, code, more.get(":path", path))
    assert (reply.status, ("allow", "POST") in reply.headers) == (status, status == 405)


def check_refusal(reply: Refuse, status: int, code: str, path: str) -> None:
    assert reply.status == status
    assert ("content-type", "application/json") in reply.headers
    says = json.loads(reply.body)
    if path.startswith("/v1/messages"):
        assert says["type"] == "error"
        assert says["error"].keys() == {"type", "message"}
        assert says["request_id"] == "id-1"
    else:
        assert says["error"].keys() == {"message", "type", "param", "code"}
        assert says["error"]["code"] == code
    assert facts_of(reply).error == code
    assert reply.metadata["refused"] == code
    assert reply.details == f"aion_{code}"
    transmit(reply)


@pytest.mark.parametrize("path", [CHAT_PATH, MESSAGES_PATH])
@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_type"),
        (b'{"model":"aion-auto"}', 400, "missing_field"),
        (body(model="gpt-smol"), 404, "model_not_found"),
        (body(model="aion-local"), 404, "no_local_model"),
    ],
)
def test_a_refusal_by_the_body(path: str, raw: bytes, status: int, code: str) -> None:
    reply = send(OPEN, headers(path), [raw[:3], raw[3:]])
    assert isinstance(reply, Refuse)
    check_refusal(reply, status, code, path)


@pytest.mark.parametrize(
    ("path", "model", "sent_to"),
    [(CHAT_PATH, "claude-mid", MESSAGES_PATH), (MESSAGES_PATH, "gpt-mid", CHAT_PATH)],
)
def test_a_model_of_the_other_api_gets_its_own_format(path: str, model: str, sent_to: str) -> None:
    sent = headers(f"{path}?beta=true", anthropic_beta="b", anthropic_version="2024-01-01", x_request_id="id-7")
    reply = proceeds(OPEN, sent, body(model=model, max_tokens=5, seed=1, top_k=2))
    outgoing = dict(reply.set_headers)
    assert (outgoing[":path"], outgoing["x-aion-response"]) == (sent_to, "translate")
    assert json.loads(reply.body)["model"] == model
    found = facts_of(reply)
    assert (found.format, found.path) == ("openai" if path == CHAT_PATH else "anthropic", path)
    assert Endpoint(found.endpoint).format != found.format
    assert decode_asked(reply.metadata["asked"]).request_id == "id-7"
    assert ("seed" if path == CHAT_PATH else "top_k") in reply.metadata["dropped"].split(",")
    gone = {"anthropic-beta", "anthropic-version"} if sent_to == CHAT_PATH else set()
    assert set(reply.remove_headers) == gone


def test_by_price_alone_where_the_client_s_api_is_not_preferred() -> None:
    plain = body(max_tokens=5)
    assert facts_of(proceeds(OPEN, headers(MESSAGES_PATH), plain)).model == "claude-small"
    cheapest = policy(routing={"prefer_native": False})
    assert facts_of(proceeds(cheapest, headers(MESSAGES_PATH), plain)).model == "gpt-small"


def test_no_body_at_all() -> None:
    reply = exchange(OPEN).headers(headers(), True)
    assert isinstance(reply, Refuse)
    check_refusal(reply, 400, "missing_body", CHAT_PATH)
    for trailers in (False, True):
        late = send(OPEN, headers(), [b"", b""], trailers=trailers)
        assert isinstance(late, Refuse)
        check_refusal(late, 400, "invalid_json", CHAT_PATH)


def test_a_body_that_grows_over_the_limit_is_refused_where_it_does() -> None:
    script = exchange(LIMITED)
    assert script.headers(headers(), False) is None
    assert script.body(b" " * LIMIT, False) is None
    reply = script.body(b" ", False)
    assert isinstance(reply, Refuse)
    check_refusal(reply, 413, "body_too_large", CHAT_PATH)
    exact = body("x" * (LIMIT - len(body(""))))
    assert len(exact) == LIMIT
    assert isinstance(send(LIMITED, headers(content_length=str(LIMIT)), [exact]), Proceed)


@pytest.mark.parametrize(
    "more",
    [
        {"authorization": f"Bearer {CLIENT_KEY}"},
        {"authorization": "Bearer ", "x-api-key": CLIENT_KEY},
        {"authorization": f"bearer  {CLIENT_KEY}"},
        {"x-api-key": CLIENT_KEY},
        {"authorization": "Bearer other", "x-api-key": CLIENT_KEY},
    ],
)
def test_either_header_may_carry_the_key(more: dict[str, str]) -> None:
    for path in (CHAT_PATH, MESSAGES_PATH):
        reply = proceeds(LOCKED, headers(path) | more, body(max_tokens=5))
        assert (facts_of(reply).key_name, facts_of(reply).tenant) == ("ci", "acme")
        assert set(more) <= set(reply.remove_headers)
        assert CLIENT_KEY not in repr(reply)


def test_a_refusal_knows_whose_request_it_was() -> None:
    reply = send(LOCKED, headers(x_api_key=CLIENT_KEY), [body(model="gpt-smol", stream=True)])
    assert isinstance(reply, Refuse)
    found = facts_of(reply)
    assert (found.key_name, found.tenant, found.asked_model, found.stream) == ("ci", "acme", "gpt-smol", True)


def test_requests_with_tags_of_their_own_share_the_rest_of_what_is_known_of_a_key() -> None:
    rules = {"key": CLIENT_KEY, "name": "ci", "trusted": True, "models": ["gpt-small"], "tags": ["b"]}
    callers = policy(auth={"keys": [rules]}).callers
    plain, *tagged = (callers.find(CLIENT_KEY, {"x-aion-tags": tags}, 0.0) for tags in ("", "a", "c,b,a"))
    assert plain is not None
    assert plain.forbidden
    assert plain.tags == "b"
    found = [caller for caller in tagged if caller is not None]
    assert [caller.tags for caller in found] == ["a,b", "a,b,c"]
    assert all(caller.forbidden is plain.forbidden for caller in found)


# What is sent on


def test_a_request_is_sent_on_to_its_provider() -> None:
    sent = headers(f"{CHAT_PATH}?a=1&b=%20", cookie="c", x_custom="1", x_aion_priority="high", x_envoy_retry_on="5xx")
    reply = proceeds(OPEN, sent, body("fix this typo"))
    outgoing = dict(reply.set_headers)
    assert len(outgoing) == len(reply.set_headers)
    assert outgoing == {
        ":authority": "127.0.0.1:9",
        ":path": "/v1/chat/completions?a=1&b=%20",
        ":scheme": "http",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "authorization": f"Bearer {OPENAI_KEY}",
        "x-aion-response": "process",
        "x-envoy-max-retries": "3",
        "x-envoy-retry-on": "5xx,reset,connect-failure,refused-stream,retriable-status-codes",
        "x-envoy-retriable-status-codes": "401,402,403,404,408,429",
        "x-envoy-upstream-rq-per-try-timeout-ms": "240000",
    }
    assert set(reply.remove_headers) == {"cookie", "x-aion-priority", "x-envoy-retry-on"}
    assert reply.clusters == ("provider_openai", *[FALLBACK_CLUSTER] * 3)
    found = facts_of(reply)
    assert (found.asked_model, found.model, found.provider, found.tier) == ("aion-auto", "gpt-small", "openai", 1)
    assert found.score is not None
    assert reply.metadata["score"] == f"{found.score:.6g}"
    assert float(reply.metadata["cost_usd"]) > 0


def test_an_anthropic_request_gets_the_version_it_lacks() -> None:
    plain = dict(proceeds(OPEN, headers(MESSAGES_PATH), body(max_tokens=5)).set_headers)
    assert (plain["anthropic-version"], plain["x-api-key"]) == ("2023-06-01", ANTHROPIC_KEY)
    own = proceeds(OPEN, headers(MESSAGES_PATH, anthropic_version="2024-01-01"), body(max_tokens=5))
    assert "anthropic-version" not in dict(own.set_headers)


@pytest.mark.parametrize(
    ("path", "more", "gateway", "way"),
    [
        (CHAT_PATH, {}, {}, "process"),
        (CHAT_PATH, {}, {"json_cost": "estimate"}, None),
        (CHAT_PATH, {"stream": True}, {}, "strip-usage"),
        (CHAT_PATH, {"stream": True, "stream_options": {"include_usage": False}}, {}, "strip-usage"),
        (CHAT_PATH, {"stream": True, "stream_options": {"include_usage": True}}, {}, None),
        (MESSAGES_PATH, {}, {}, "process"),
        (MESSAGES_PATH, {"stream": True}, {}, None),
    ],
)
def test_the_way_that_the_answer_takes(
    path: str, more: dict[str, Any], gateway: dict[str, Any], way: str | None
) -> None:
    named = "gpt-small" if path == CHAT_PATH else "claude-small"
    for model in (named, "aion-auto"):  # the latter falls back to models of the other format, to no harm of this one
        reply = proceeds(policy(gateway=gateway), headers(path), body(max_tokens=5, **more, model=model))
        assert dict(reply.set_headers).get("x-aion-response") == way
    asked = json.loads(reply.body).get("stream_options", {}).get("include_usage", False)
    assert asked == (path == CHAT_PATH and "stream" in more)


def test_nothing_of_the_text_and_no_key_is_in_the_metadata() -> None:
    """It is in the access log."""
    secret = "swordfish"
    raw = body(f"please refactor {secret}", system=secret, user=secret, tools=[{"name": secret}], max_tokens=5)
    for path in (CHAT_PATH, MESSAGES_PATH):
        reply = proceeds(OPEN, headers(path, authorization=f"Bearer {secret}", x_note=secret), raw)
        assert secret not in repr(reply.metadata)
        assert OPENAI_KEY not in repr(reply.metadata)
    refused = send(OPEN, headers(), [raw.replace(b'"tools":[', b'"tools":[,')])
    assert isinstance(refused, Refuse)
    assert secret not in repr(refused)


def cached(*lifetimes: str) -> bytes:
    parts = []
    for lifetime in lifetimes:
        ttl = {"ttl": lifetime} if lifetime else {}
        parts.append({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", **ttl}})
    messages = [{"role": "user", "content": [{"type": "text", "text": 'says "1h"'}, *parts]}]
    return orjson.dumps({"model": "claude-mid", "max_tokens": 5, "messages": messages})


@pytest.mark.parametrize(
    ("lifetimes", "expected"),
    [
        ((), ""),
        (("",), ""),
        (("5m",), ""),
        (("1h",), "1h"),
        (("1h", "1h"), "1h"),
        (("1h", "5m"), "mixed"),
        (("", "1h"), "mixed"),
    ],
)
def test_the_cache_lifetime_is_read_from_the_request(lifetimes: tuple[str, ...], expected: str) -> None:
    assert facts_of(proceeds(OPEN, headers(MESSAGES_PATH), cached(*lifetimes))).cache_ttl == expected


def test_paths_that_people_write() -> None:
    for path in ("", "/", "//"):
        assert isinstance(send(OPEN, headers(CHAT_PATH + path), [body()]), Proceed), path
    for path in ("/v1/v1/chat/completions", "/chat/completions", "/v1/v1/v1/chat/completions"):
        assert isinstance(send(OPEN, headers(path), [body()]), Proceed), path
    for path in ("/v1/messages?beta=true", "/messages", "/v1/v1/messages/?beta=true"):
        reply = send(OPEN, headers(path), [body(max_tokens=5)])
        assert isinstance(reply, Proceed), path
        assert dict(reply.set_headers)[":path"] == "/v1/messages" + ("?beta=true" if "?" in path else "")
