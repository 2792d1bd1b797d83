"""What becomes of a finished request in the ledger."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest

from aion_extproc.accounting.cost import cost_nano
from aion_extproc.accounting.facts import Facts, Reported, decode, decode_usage, encode, encode_usage
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.accounting.settle import Finished, settle
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import FREE, Model, Prices, Rate
from aion_extproc.wire.format import Format

# Pico-dollars a token: $1 in, $0.1 read, $1.25 written, $2 written for an hour, $5 out, per million.
CHEAP = Prices(Rate(1_000_000), Rate(5_000_000), Rate(100_000), Rate(1_250_000), Rate(2_000_000))
DEAR = Prices(Rate(10_000_000), Rate(50_000_000))


def model(name: str, prices: Prices | None, tier: int = 1) -> Model:
    local = prices is FREE
    return Model(name, "p", tier, prices, context_window=None, local=local, formats=frozenset(Format))


CATALOG = Catalog([model("cheap", CHEAP), model("dear", DEAR, 3), model("unpriced", None), model("local", FREE)])
COUNTED = Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=200)
FACTS = Facts(
    format="anthropic",
    key_name="ci",
    tenant="acme",
    asked_model="aion-auto",
    model="cheap",
    provider="p",
    tier=1,
    score=0.25,
    task="chat",
    reason="tier 1",
    input_tokens=900,
    max_tokens=50,
)
STREAM = replace(FACTS, stream=True)
OPENAI_STREAM = replace(STREAM, format="openai")
SERVED = Finished(
    request_id="id",
    at_ms=1_700_000_000_000,
    path="/v1/messages?beta=true",
    status=200,
    latency_ms=12.5,
    ttft_ms=5.0,
    request_bytes=77,
    response_bytes=11_000,
    attempts=1,
    upstream_answered=True,
    client_gone=False,
    whole=True,
    error="",
    usage=COUNTED,
    usage_complete=True,
)
# The answer began and the provider's count did not come.
CUT = replace(SERVED, whole=False, client_gone=True, usage=None, usage_complete=False)
BROKEN = replace(CUT, client_gone=False, error="upstream_reset")
NOT_ANSWERED = replace(SERVED, upstream_answered=False, whole=False, usage=None, usage_complete=False, ttft_ms=None)
GONE_EARLY = replace(NOT_ANSWERED, status=0, client_gone=True, response_bytes=0)
FAILED = replace(NOT_ANSWERED, status=503, error="connect_failed", response_bytes=120)


def row(finished: Finished, facts: Facts = FACTS) -> LedgerRow:
    return settle(finished, facts, CATALOG)


def test_a_served_request() -> None:
    assert row(SERVED) == LedgerRow(
        request_id="id",
        at_ms=1_700_000_000_000,
        outcome="served",
        status=200,
        path="/v1/messages",
        format="anthropic",
        stream=False,
        key_name="ci",
        tenant="acme",
        asked_model="aion-auto",
        model="cheap",
        provider="p",
        tier=1,
        score=0.25,
        task="chat",
        reason="tier 1",
        error="",
        attempts=1,
        usage=COUNTED,
        estimated=False,
        cost_nano=(800 * 1_000 + 200 * 100 + 100 * 5_000),
        baseline_nano=1000 * 10_000 + 100 * 50_000,
        baseline_model="dear",
        latency_ms=12.5,
        ttft_ms=5.0,
        request_bytes=77,
        response_bytes=11_000,
    )


OUTCOMES: list[tuple[str, Finished, Facts, tuple[str, str, bool]]] = [
    ("served", SERVED, FACTS, ("served", "", False)),
    ("served, nothing reported", replace(SERVED, usage=None, usage_complete=False), FACTS, ("served", "", True)),
    ("client gone in the answer", CUT, STREAM, ("cut", "client_gone", True)),
    ("client gone, all counted", replace(SERVED, whole=False, client_gone=True), STREAM, ("cut", "client_gone", False)),
    ("provider broke off", BROKEN, STREAM, ("cut", "upstream_reset", True)),
    ("client gone before the answer", GONE_EARLY, FACTS, ("cut", "client_gone", True)),
    ("provider's 500", replace(SERVED, status=500, usage=None), FACTS, ("failed", "provider_500", False)),
    ("provider's 429", replace(SERVED, status=429, usage=None), FACTS, ("failed", "provider_429", False)),
    ("error, client gone in it", replace(CUT, status=500), FACTS, ("failed", "provider_500", False)),
    ("no connection", FAILED, FACTS, ("failed", "connect_failed", False)),
    ("no reason known", replace(FAILED, error=""), FACTS, ("failed", "gateway_error", False)),
    ("worker lost", replace(FAILED, error="worker_lost"), Facts(), ("failed", "worker_lost", False)),
    ("refused", replace(NOT_ANSWERED, status=400), Facts(error="invalid_json"), ("refused", "invalid_json", False)),
    ("refused, client gone", GONE_EARLY, Facts(error="invalid_json"), ("refused", "invalid_json", False)),
]


@pytest.mark.parametrize("case", OUTCOMES, ids=[case[0] for case in OUTCOMES])
def test_outcomes(case: tuple[str, Finished, Facts, tuple[str, str, bool]]) -> None:
    _, finished, facts, expected = case
    found = row(finished, facts)
    assert (found.outcome, found.error, found.estimated) == expected
    assert (found.status, found.attempts, found.latency_ms) == (finished.status, 1, 12.5)
    if found.outcome in ("failed", "refused"):
        assert found.usage == Usage()
        assert found.cost_nano == (0 if facts.model else None)
    else:
        assert found.cost_nano == cost_nano(CHEAP, found.usage)
        assert found.cost_nano > 0


def test_an_estimate_of_a_cut_stream() -> None:
    # What a token of a stream weighs on the wire is known for each format; a JSON answer has four characters a token.
    unlimited: dict[str, Any] = {"max_tokens": None}
    chat = row(CUT, replace(OPENAI_STREAM, **unlimited)).usage
    messages = row(CUT, replace(STREAM, **unlimited)).usage
    whole = row(CUT, replace(FACTS, **unlimited)).usage
    assert (chat.input_tokens, messages.input_tokens, whole.input_tokens) == (900, 900, 900)
    assert 40 <= chat.output_tokens <= 80
    assert 80 <= messages.output_tokens <= 130
    assert whole.output_tokens == 2750
    # More bytes, more tokens; none, none.
    assert row(replace(CUT, response_bytes=22_000), replace(STREAM, **unlimited)).usage.output_tokens == 200
    assert row(replace(CUT, response_bytes=0), replace(STREAM, **unlimited)).usage.output_tokens == 0


def test_an_estimate_is_bounded_by_what_the_client_allowed() -> None:
    assert row(CUT, STREAM).usage == Usage(input_tokens=900, output_tokens=50)
    assert row(CUT, replace(STREAM, max_tokens=0)).usage.output_tokens == 0


def test_what_the_provider_has_counted_is_kept() -> None:
    begun = Usage(input_tokens=1000, output_tokens=3, cache_read_tokens=400, cache_write_tokens=100)
    found = row(replace(CUT, usage=begun), STREAM)
    assert (found.usage, found.estimated) == (replace(begun, output_tokens=50), True)
    # Not lowered either, by few bytes or by the client's limit.
    assert row(replace(CUT, usage=begun, response_bytes=0), STREAM).usage.output_tokens == 3
    assert row(replace(CUT, usage=begun), replace(STREAM, max_tokens=1)).usage.output_tokens == 3
    early = row(replace(GONE_EARLY, usage=begun), STREAM)
    assert early.usage == begun


def test_a_client_that_left_before_the_answer_pays_for_its_input() -> None:
    found = row(GONE_EARLY)
    assert found.usage == Usage(input_tokens=900)
    assert found.cost_nano == 900 * 1_000
    assert found.ttft_ms is None


@pytest.mark.parametrize("finished", [SERVED, CUT, GONE_EARLY, FAILED])
def test_an_unknown_price_is_unknown_and_never_zero(finished: Finished) -> None:
    found = row(finished, replace(FACTS, model="unpriced"))
    assert found.cost_nano is None
    assert found.baseline_model == "dear"


def test_a_model_that_the_catalogue_no_longer_has_has_no_price() -> None:
    """A reload in between."""
    assert row(SERVED, replace(FACTS, model="gone")).cost_nano is None
    assert row(SERVED, replace(FACTS, provider="other")).cost_nano is None


def test_a_local_model_costs_nothing_and_saves_all() -> None:
    found = row(SERVED, replace(FACTS, model="local"))
    assert (found.cost_nano, found.baseline_nano) == (0, 15_000_000)


def test_no_model_no_cost() -> None:
    found = row(replace(NOT_ANSWERED, status=404), Facts(error="model_not_found", asked_model="x"))
    assert (found.cost_nano, found.baseline_nano, found.baseline_model, found.tier) == (None, None, "", 0)


WRITES = Usage(input_tokens=1000, output_tokens=10, cache_write_tokens=300)


@pytest.mark.parametrize(
    ("ttl", "reported", "hour", "estimated"),
    [
        ("", WRITES, 0, False),
        ("1h", WRITES, 300, False),
        ("mixed", WRITES, 300, True),
        ("mixed", replace(WRITES, cache_write_1h_tokens=40), 40, False),  # the answer itself told them apart
        ("1h", replace(WRITES, cache_write_tokens=0), 0, False),
        ("mixed", replace(WRITES, cache_write_tokens=0), 0, False),
    ],
)
def test_lifetimes_of_cache_writes(ttl: str, reported: Usage, hour: int, estimated: bool) -> None:
    found = row(replace(SERVED, usage=reported), replace(FACTS, cache_ttl=ttl))
    assert (found.usage.cache_write_1h_tokens, found.estimated) == (hour, estimated)
    assert found.cost_nano == cost_nano(CHEAP, replace(reported, cache_write_1h_tokens=hour))
    cut = row(replace(CUT, usage=reported), replace(STREAM, cache_ttl=ttl))
    assert (cut.usage.cache_write_1h_tokens, cut.estimated) == (hour, True)


def test_a_count_that_cannot_be_is_not_believed() -> None:
    """A provider's mistake must not make a row that no ledger can hold."""
    for usage in (Usage(input_tokens=2**63), Usage(output_tokens=2**64 - 1), Usage(5, 5, cache_write_1h_tokens=2**60)):
        found = row(replace(SERVED, usage=usage))
        assert found.estimated
        assert found.usage.input_tokens == 900
        assert found.cost_nano is not None
        assert found.cost_nano < 2**63
    most = Prices(Rate(10**12), Rate(10**12))  # the dearest that a configuration can say: $1,000,000 per million
    largest = Usage(10**9, 10**9, 10**9, 10**9, 10**9, 10**9)
    assert not row(replace(SERVED, usage=largest)).estimated
    assert 0 < cost_nano(most, largest) < 2**63


def test_a_path_is_kept_short_and_without_its_query() -> None:
    assert row(replace(SERVED, path="/v1/messages?key=secret")).path == "/v1/messages"
    assert row(replace(SERVED, path="/" + "x" * 500)).path == "/" + "x" * 127


def test_facts_and_usage_travel_unchanged() -> None:
    for facts in (Facts(), FACTS, STREAM, replace(FACTS, score=None, max_tokens=None, reason="é😀\n\x00")):
        assert decode(encode(facts)) == facts
    usage = Usage(1, 2, 3, 4, 5, 6)
    assert astuple(usage) == (1, 2, 3, 4, 5, 6)
    for reported in (Reported(usage, True), Reported(usage, False, ""), Reported(usage, True, "flex")):
        complete, tier = reported.complete, reported.service_tier
        assert decode_usage(encode_usage(usage, complete=complete, service_tier=tier)) == reported


# --- service tiers, the baseline, energy

FLEX = Prices(Rate(500_000), Rate(2_500_000))
TIERED = Model(
    "cheap",
    "p",
    1,
    CHEAP,
    context_window=None,
    local=False,
    formats=frozenset(Format),
    service_tiers=(("flex", FLEX),),
    parameters_m=(8_000, 8_000),
)
COMPARED = Catalog([TIERED, model("dear", DEAR, 3), model("local", FREE)], baseline="p/dear")


def tiered(asked: str, served: str | None, **more: Any) -> LedgerRow:
    return settle(replace(SERVED, service_tier=served, **more), replace(FACTS, service_tier=asked), COMPARED)


@pytest.mark.parametrize(
    ("asked", "served", "prices", "estimated"),
    [
        ("", None, CHEAP, False),
        ("", "", CHEAP, False),
        ("flex", "flex", FLEX, False),
        ("flex", "", CHEAP, False),  # there was no room in it
        ("", "flex", FLEX, False),  # the account's own setting
        ("flex", None, FLEX, True),  # nobody saw the answer
        ("ultrafast", None, None, True),
        ("", "scale", None, False),
    ],
)
def test_the_tier_that_served_it_is_billed(
    asked: str, served: str | None, prices: Prices | None, estimated: bool
) -> None:
    found = tiered(asked, served)
    assert found.cost_nano == (None if prices is None else cost_nano(prices, COUNTED))
    assert found.estimated is estimated


def test_what_is_not_billed_has_no_tier() -> None:
    found = tiered("ultrafast", None, upstream_answered=False, status=503, usage=None, error="connect_failed")
    assert (found.cost_nano, found.estimated) == (0, False)


def test_a_free_model_is_free_at_every_tier() -> None:
    found = settle(replace(SERVED, service_tier="gold"), replace(FACTS, model="local"), COMPARED)
    assert found.cost_nano == 0


def test_the_named_baseline_is_in_the_row_dearer_or_not() -> None:
    found = tiered("", None)
    assert (found.reference_model, found.reference_nano) == ("dear", cost_nano(DEAR, COUNTED))
    by_dear = settle(SERVED, replace(FACTS, model="dear"), Catalog(COMPARED.models, baseline="cheap"))
    assert (by_dear.reference_model, by_dear.reference_nano) == ("cheap", cost_nano(CHEAP, COUNTED))
    assert by_dear.cost_nano is not None
    assert by_dear.reference_nano is not None
    assert by_dear.reference_nano < by_dear.cost_nano  # a loss, and not hidden
    none = row(SERVED)
    assert (none.reference_model, none.reference_nano) == ("", None)


def test_energy_is_in_the_row_where_something_is_known_of_the_model() -> None:
    found = tiered("", None)
    # 800 fresh tokens read and 100 written; 1000 and 100
    assert (found.energy_low_mj, found.energy_high_mj) == (800 * 2 + 100 * 15, 1000 * 100 + 100 * 400)
    unknown = row(SERVED)
    assert (unknown.energy_low_mj, unknown.energy_high_mj) == (None, None)


def test_reasoning_that_stands_beside_the_output_is_part_of_it() -> None:
    apart = Catalog([replace(TIERED, reasoning_apart=True)])
    counted = Usage(100, 2, reasoning_tokens=317)
    by_envoy = replace(SERVED, usage=counted, by_envoy=True)
    chat = replace(FACTS, endpoint="chat")
    assert settle(by_envoy, chat, apart).usage == Usage(100, 319, reasoning_tokens=317)
    # Read in Python it is counted right already, and so are the other endpoints' answers and other providers'.
    assert settle(replace(by_envoy, by_envoy=False), chat, apart).usage == counted
    assert settle(by_envoy, replace(chat, endpoint="responses"), apart).usage == counted
    assert settle(by_envoy, chat, COMPARED).usage == counted
