"""Prices beyond input and output: how aion.yaml and the list give them, and what they are compared with."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.build import build
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import FREE, Model, Prices, Rate
from aion_extproc.config.errors import ConfigError
from aion_extproc.config.load import loads
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.assignment import Assignment, Generation, dump_assignment, load_assignment
from tests.unit.test_config_errors import errors

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
BASE = "input_price_per_1m: 1, output_price_per_1m: 10"


def catalog(text: str, at: datetime = AT) -> Catalog:
    return build(loads(text, "aion.yaml", {}), at)


def only(entry: str, provider: str = "openai: {api_key: k", at: datetime = AT) -> Model:
    (model,) = catalog(f"providers: {{{provider}, models: [{{{entry}}}]}}}}", at).models
    return model


def wrong(entry: str) -> list[str]:
    return errors(f"providers:\n  openai:\n    api_key: k\n    models:\n    - {{id: m, tier: 1, {entry}}}\n")


def test_every_kind_has_a_price() -> None:
    model = only(
        f"id: m, tier: 1, {BASE}, cache_read_price_per_1m: 0.1, cache_write_price_per_1m: 1.25, "
        "cache_write_1h_price_per_1m: 2, reasoning_price_per_1m: 3.5"
    )
    rates = [Rate(int(usd * 10**6)) for usd in (1, 10, 0.1, 1.25, 2, 3.5)]
    assert model.prices == Prices(*rates)


def test_long_context_prices_every_kind() -> None:
    model = only(
        f"id: m, tier: 1, {BASE}, cache_read_price_per_1m: 0.1, reasoning_price_per_1m: 3, "
        "long_context: {above: 200000, input_price_per_1m: 2, output_price_per_1m: 15, cache_write_price_per_1m: 2.5}"
    )
    # A kind that has a price on one side only has that of the kind around it on the other.
    assert model.prices == Prices(
        input=Rate(1_000_000, ((200_000, 2_000_000),)),
        output=Rate(10_000_000, ((200_000, 15_000_000),)),
        cache_read=Rate(100_000, ((200_000, 2_000_000),)),
        cache_write=Rate(1_000_000, ((200_000, 2_500_000),)),
        reasoning=Rate(3_000_000, ((200_000, 15_000_000),)),
    )


def test_service_tiers_of_the_list() -> None:
    model = only("id: gpt-5.4-mini, tier: 1")
    assert model.prices_at("") is model.prices
    assert model.prices_at("flex") == Prices(Rate(375_000), Rate(2_250_000), cache_read=Rate(37_500))
    assert model.prices_at("priority") == Prices(Rate(1_500_000), Rate(9_000_000), cache_read=Rate(150_000))
    assert model.prices_at("batch") is not None
    assert model.prices_at("scale") is None
    fast = only("id: claude-opus-5-5, tier: 3", "anthropic: {api_key: k").prices_at("fast")
    assert fast is not None
    assert (fast.input, fast.output) == (Rate(8_000_000), Rate(40_000_000))


def test_a_tiers_price_has_its_day() -> None:
    before = datetime(2026, 10, 11, tzinfo=UTC)
    model = only("id: gpt-5.4-mini, tier: 1", at=before)
    assert model.prices_at("flex") is None  # not the usual one
    made = catalog("providers: {openai: {api_key: k, models: [{id: gpt-5.4-mini, tier: 1}]}}", before)
    assert made.valid_until == datetime(2026, 10, 12, tzinfo=UTC)


def test_service_tiers_of_the_configuration() -> None:
    flex = "service_tiers: {flex: {input_price_per_1m: 0.5, output_price_per_1m: 5, long_context: {above: 9, " + (
        "input_price_per_1m: 1, output_price_per_1m: 7}}, fast+us: {input_price_per_1m: 9, output_price_per_1m: 9}}"
    )
    model = only(f"id: gpt-5.4-mini, tier: 1, {BASE}, {flex}")
    assert model.prices_at("flex") == Prices(Rate(500_000, ((9, 1_000_000),)), Rate(5_000_000, ((9, 7_000_000),)))
    assert model.prices_at("fast+us") == Prices(Rate(9_000_000), Rate(9_000_000))
    assert model.prices_at("priority") is None  # the list's belongs to the list's usual price
    over_the_list = only(f"id: gpt-5.4-mini, tier: 1, {flex}")
    assert over_the_list.prices == Prices(Rate(750_000), Rate(4_500_000), cache_read=Rate(75_000))
    assert over_the_list.prices_at("flex") == model.prices_at("flex")
    assert over_the_list.prices_at("priority") is not None


def test_what_is_free_is_free_at_every_tier() -> None:
    local = only("id: q, tier: 1", "ollama: {base_url: 'http://127.0.0.1:1'")
    demo = only("id: q, tier: 1", "demo: {base_url: 'http://127.0.0.1:1'")
    for model in (local, demo, Catalog.from_json(Catalog([demo]).to_json()).models[0]):
        assert model.prices_at("anything") == FREE


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ("reasoning_price_per_1m: 3", "reasoning_price_per_1m: needs input_price_per_1m"),
        (
            "long_context: {above: 1, input_price_per_1m: 1, output_price_per_1m: 1}",
            "long_context: needs input_price_per_1m",
        ),
        (f"{BASE}, long_context: {{above: 0, input_price_per_1m: 1, output_price_per_1m: 1}}", "long_context.above: "),
        (f"{BASE}, long_context: {{above: 9, input_price_per_1m: 1}}", "long_context.output_price_per_1m: is missing"),
        ("service_tiers: {flex: {input_price_per_1m: 1}}", "service_tiers.flex.output_price_per_1m: is missing"),
        ("service_tiers: {flex: {inptu_price_per_1m: 1}}", "service_tiers.flex.inptu_price_per_1m: unknown key"),
        (
            "service_tiers: {default: {input_price_per_1m: 1, output_price_per_1m: 1}}",
            "service_tiers.default: is the usual tier",
        ),
        ("service_tiers: {Flex: {input_price_per_1m: 1, output_price_per_1m: 1}}", "service_tiers.Flex: must be a"),
        ("parameters_b: 0", "parameters_b: must be billions of parameters"),
        ("parameters_b: many", "parameters_b: must be a number"),
        ("parameters_b: 0.0001", "parameters_b: must be billions of parameters"),
    ],
)
def test_mistakes_have_their_place(entry: str, place: str) -> None:
    assert any(f"models[0].{place}" in text for text in wrong(entry)), wrong(entry)


@pytest.mark.parametrize(
    ("entry", "provider", "sizes"),
    [
        ("id: m, tier: 1, parameters_b: 5.1", "openai: {api_key: k", (5_100, 5_100)),
        ("id: m, tier: 1", "openai: {api_key: k", (2_000, 30_000)),
        ("id: m, tier: 3", "openai: {api_key: k", (20_000, 400_000)),
        ("id: m, mode: embedding", "openai: {api_key: k", None),
        ("id: m, mode: embedding, parameters_b: 0.3", "openai: {api_key: k", (300, 300)),
        ("id: m, tier: 1", "demo: {base_url: 'http://127.0.0.1:1'", None),
    ],
)
def test_how_large_a_model_is_taken_to_be(entry: str, provider: str, sizes: tuple[int, int] | None) -> None:
    assert only(entry, provider).parameters_m == sizes


def test_the_dearest_for_reasoning_is_not_left_out() -> None:
    entry = "{{id: {0}, tier: 1, input_price_per_1m: 1, output_price_per_1m: {1}, reasoning_price_per_1m: {2}}}".format
    made = catalog(f"providers: {{openai: {{api_key: k, models: [{entry('a', 10, 1)}, {entry('b', 9, 20)}]}}}}")
    for usage, id, cost in ((Usage(0, 100), "a", 1_000_000), (Usage(0, 100, reasoning_tokens=100), "b", 2_000_000)):
        dearest = made.dearest(usage)
        assert dearest is not None
        assert (dearest[0].id, dearest[1]) == (id, cost)


def test_who_counts_reasoning_beside_the_output() -> None:
    assert only("id: grok-4.3, tier: 2", "xai: {api_key: k").reasoning_apart
    assert not only("id: gpt-5.4, tier: 2").reasoning_apart


TWO = """
providers:
  openai: {api_key: k, models: [{id: gpt-5.4, tier: 3}, {id: gpt-99, tier: 1}]}
  azure: {api_key: k, resource: r, models: [{id: gpt-5.4, tier: 3}]}
  off: {kind: openai, api_key: k, enabled: false, models: [{id: gone, tier: 1}]}
routing:
"""


@pytest.mark.parametrize(("baseline", "provider"), [("openai/gpt-5.4", "openai"), ("azure/gpt-5.4", "azure")])
def test_a_baseline_is_one_model(baseline: str, provider: str) -> None:
    made = catalog(f"{TWO}  baseline: {baseline}\n")
    assert made.baseline is not None
    assert (made.baseline.provider, made.baseline.id) == (provider, "gpt-5.4")
    assert catalog("providers: {openai: {api_key: k, models: [{id: gpt-5.4, tier: 3}]}}").baseline is None


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("gpt-5.4", "several providers have it; say which: openai/gpt-5.4, azure/gpt-5.4"),
        ("gpt-5.5", 'no enabled model is called "gpt-5.5"; did you mean "gpt-5.4"?'),
        ("gone", 'no enabled model is called "gone"; there are gpt-5.4, gpt-99'),
        ("aion-auto", 'no enabled model is called "aion-auto"; there are gpt-5.4, gpt-99'),
    ],
)
def test_a_baseline_that_is_none(baseline: str, message: str) -> None:
    assert errors(f"{TWO}  baseline: {baseline}\n") == [f"aion.yaml:7: routing.baseline: {message}"]


def test_a_baseline_needs_a_price() -> None:
    with pytest.raises(ConfigError) as caught:
        catalog(f"{TWO}  baseline: gpt-99\n")
    assert str(caught.value).startswith("configuration: routing.baseline: its price is unknown")


def test_a_process_gets_it_all() -> None:
    secret = "whsec_" + "A" * 32
    text = (
        f"providers: {{openai: {{api_key: k, models: [{{id: m, tier: 1, {BASE}, parameters_b: 0.5, service_tiers: "
        f"{{flex: {{{BASE}, long_context: {{above: 5, {BASE}}}}}}}, long_context: {{above: 5, {BASE}}}}}]}}}}\n"
        f"energy: {{grid_g_per_kwh: 33.5}}\nrouting: {{baseline: m}}\n"
        f"webhooks: [{{url: 'https://x.example/T0KEN', secret: {secret}, events: [budget.exhausted]}}]\n"
    )
    settings = loads(text, "x", {})
    made = build(settings, AT)
    loaded = load_assignment(dump_assignment(Assignment(Generation(1, settings, made)))).current
    assert loaded.settings == settings
    assert loaded.settings.energy.grid_g_per_kwh == Decimal("33.5")
    assert loaded.settings.webhooks[0].secret.get_secret_value() == secret
    assert loaded.catalog.models == made.models
    assert loaded.catalog.baseline == made.models[0]
    assert secret not in repr(settings)
    assert "T0KEN" not in repr(settings)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{}", "[0].url: is missing"),
        ("{url: 'http://x.example', secret: SECRET}", "[0].url: must be https; http is for receivers with"),
        ("{url: 'ftp://x.example', secret: SECRET, allow_private: true}", "[0].url: must be a URL such as"),
        ("{url: 'https://u:p@x.example', secret: SECRET}", "[0].url: must not have a user"),
        ("{url: 'https://', secret: SECRET}", "[0].url: must be a URL such as"),
        ("{url: 'https://x:99999', secret: SECRET}", "[0].url: is not a URL"),
        ("{url: 'https://x.example', secret: short}", "[0].secret: must be 24 to 64 bytes in base64"),
        ("{url: 'https://x.example', secret: SECRET, events: []}", "[0].events: "),
        ("{url: 'https://x.example', secret: SECRET, events: [budget.warn]}", "[0].events[0]: must be 'budget.w"),
    ],
)
def test_mistakes_in_webhooks(entry: str, message: str) -> None:
    found = errors(f"webhooks:\n- {entry.replace('SECRET', 'A' * 32)}\n")
    assert any(text.startswith("aion.yaml:2: webhooks") and message in text for text in found), found
    assert not any("A" * 32 in text or "u:p" in text for text in found)


def test_there_are_at_most_eight() -> None:
    one = f"- {{url: 'https://x.example', secret: {'A' * 32}}}\n"
    assert len(loads("webhooks:\n" + one * 8, "x", {}).webhooks) == 8
    assert errors("webhooks:\n" + one * 9)


def test_the_grids_intensity() -> None:
    assert Settings().energy.grid_g_per_kwh == 400
    assert errors("energy: {grid_g_per_kwh: -1}") == [
        "aion.yaml:1: energy.grid_g_per_kwh: must be grams of CO₂ per kilowatt-hour, from 0 to 5000"
    ]
