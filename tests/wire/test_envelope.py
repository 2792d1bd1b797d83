"""A Messages body as Bedrock and Vertex want it, told by the slow reader of JSON."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aion_extproc.wire.envelope import Envelope, enclose
from tests.property.documents import VALUES, WHITE, objects, read, requests, spelled, strings
from tests.property.reference import loads

BEDROCK = Envelope("bedrock-2023-05-31", model_in_path=True, stream_in_path=True, beta_in_body=True)
VERTEX = Envelope("vertex-2023-10-16", model_in_path=True)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
NAMES = ("model", "stream", "anthropic_version", "anthropic_beta", "max_tokens")


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Objects with the members in question, some twice, some not at all, among others."""
    keys = st.sampled_from(NAMES).flatmap(spelled) | strings()
    pairs = draw(st.lists(st.tuples(keys, VALUES), max_size=6))
    return draw(WHITE) + draw(objects(pairs)) + draw(WHITE)


ENVELOPES = st.builds(
    Envelope,
    version=st.sampled_from(["", "bedrock-2023-05-31"]),
    model_in_path=st.booleans(),
    stream_in_path=st.booleans(),
    beta_in_body=st.booleans(),
)
BETAS = st.lists(st.sampled_from(["context-1m-2025-08-07", "x", 'odd"\\é']), max_size=3).map(tuple)


@QUICK
@given(bodies() | requests(), ENVELOPES, BETAS)
def test_what_must_go_goes_what_must_come_comes_and_every_other_byte_stays(
    raw: bytes, envelope: Envelope, betas: tuple[str, ...]
) -> None:
    before, out = read(raw), enclose(raw, envelope, betas)
    after = read(out)
    gone = {"model"} if envelope.model_in_path else set()
    gone |= {"stream"} if envelope.stream_in_path else set()
    expected: dict[str, str | list[str]] = {}
    if envelope.version and "anthropic_version" not in before.keys:
        expected["anthropic_version"] = envelope.version
    if envelope.beta_in_body and betas and "anthropic_beta" not in before.keys:
        expected["anthropic_beta"] = list(betas)
    added = after.parts[: len(expected)]
    assert {part.key: loads(part.value) for part in added} == expected
    kept = [(part, gap) for part, gap in zip(before.parts, before.gaps, strict=True) if part.key not in gone]
    assert list(zip(after.parts, after.gaps, strict=True))[len(expected) :] == kept
    assert (after.lead, after.tail) == (before.lead, before.tail)


def test_an_envelope_that_is_none_changes_nothing() -> None:
    raw = b' {"model" : "m"}'
    assert enclose(raw, Envelope(), ("beta",)) is raw


@pytest.mark.parametrize(
    ("envelope", "raw", "out"),
    [
        (
            BEDROCK,
            b'{"model":"m","max_tokens":1,"stream":true,"messages":[]}',
            b'{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["a","b"],"max_tokens":1,"messages":[]}',
        ),
        (
            VERTEX,
            b'{\n  "model": "m",\n  "stream": true\n}\n',
            b'{"anthropic_version":"vertex-2023-10-16",\n  "stream": true\n}\n',
        ),
        (
            BEDROCK,
            b'{"anthropic_beta":[],"anthropic_version":"x","m":{"model":1},"mod\\u0065l":2}',
            b'{"anthropic_beta":[],"anthropic_version":"x","m":{"model":1}}',
        ),
    ],
)
def test_examples(envelope: Envelope, raw: bytes, out: bytes) -> None:
    assert enclose(raw, envelope, ("a", "b")) == out
