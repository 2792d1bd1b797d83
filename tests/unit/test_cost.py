"""Money: our integers against genai-prices' decimals."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache

from genai_prices import Usage as TheirUsage
from genai_prices.data import providers as their_providers
from hypothesis import given, settings
from hypothesis import strategies as st

from aion_extproc.accounting.cost import cost_nano, cost_pico, to_nano, upper_nano, usd
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import FREE, Prices, Rate
from aion_extproc.catalog.pricing import look_up
from aion_extproc.providers import ALL

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
COUNT = st.integers(0, 1_500_000)
REASONING = "perplexity/sonar-deep-research"


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Counts as they can be: parts within their wholes."""
    total = draw(COUNT | st.sampled_from([0, 1, 100_000, 100_001, 199_999, 200_000, 200_001, 272_000, 272_001]))
    read = draw(st.integers(0, total) | st.just(0))
    write = draw(st.integers(0, total - read) | st.just(0))
    output = draw(COUNT)
    return Usage(total, output, read, write, draw(st.integers(0, write)), draw(st.integers(0, output)))


@cache
def listed() -> list[tuple[str, str]]:
    """Every default model, and every model with a long-context tariff at the providers we know. Perplexity's is the one
    that charges for reasoning in another way than for other output."""
    pairs = [(kind.price_provider, model.id) for kind in ALL for model in kind.default_models if kind.price_provider]
    pairs.append(("openrouter", REASONING))
    ours = {kind.price_provider for kind in ALL}
    for provider in their_providers:
        for model in provider.models if provider.id in ours else []:
            rates = model.get_prices(AT).__dict__.values()
            if any(hasattr(rate, "tiers") for rate in rates):
                pairs.append((provider.id, model.id))
    return pairs


def test_there_is_something_to_compare() -> None:
    priced = [pair for pair in listed() if look_up(pair[1], pair[0], None, AT).prices]
    tiered = [pair for pair in priced if any(r.above for r in [look_up(pair[1], pair[0], None, AT).prices.input])]  # type: ignore[union-attr]
    assert len(priced) > 50
    assert len(tiered) > 30


@settings(max_examples=600, deadline=None)
@given(st.data(), usages())
def test_a_cost_is_genai_prices_to_the_nano_dollar(data: st.DataObject, usage: Usage) -> None:
    provider_id, model_id = data.draw(st.sampled_from(listed()))
    prices = look_up(model_id, provider_id, None, AT).prices
    if prices is not None:
        assert cost_nano(prices, usage) == theirs(provider_id, model_id, usage, {})


@settings(max_examples=300, deadline=None)
@given(st.data(), usages())
def test_so_is_a_cost_at_a_service_tier(data: st.DataObject, usage: Usage) -> None:
    provider_id, model_id, tier, prices = data.draw(st.sampled_from(tiered()))
    key = "processing" if tier == "batch" else "speed" if provider_id == "anthropic" else "service_tier"
    assert cost_nano(prices, usage) == theirs(provider_id, model_id, usage, {key: tier})


@cache
def tiered() -> list[tuple[str, str, str, Prices]]:
    ours = {kind.price_provider for kind in ALL}
    return [
        (provider.id, model.id, tier, prices)
        for provider in their_providers
        for model in (provider.models if provider.id in ours else [])
        for tier, prices in look_up(model.id, provider.id, None, AT).service_tiers
    ]


def test_the_tiers_are_those_that_providers_have() -> None:
    assert len(tiered()) > 100
    assert {tier for provider, _, tier, _ in tiered() if provider == "openai"} == {"flex", "priority", "fast", "batch"}
    assert {tier for provider, _, tier, _ in tiered() if provider == "anthropic"} == {"fast", "batch"}
    assert all(prices.reasoning is not None for prices in [look_up(REASONING, "openrouter", None, AT).prices] if prices)


def theirs(provider_id: str, model_id: str, usage: Usage, context: dict[str, str]) -> int:
    """Nano-dollars by genai-prices."""
    provider = next(p for p in their_providers if p.id == provider_id)
    model = provider.find_model(model_id, all_providers=their_providers)
    assert model is not None
    # Models may be another provider's; then their variants are not looked at.
    price = model.get_prices(AT, context).calc_price(
        TheirUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
        )
    )["total_price"]
    return int((price * 10**9).to_integral_value(ROUND_HALF_UP))


def test_the_documented_formula_by_hand() -> None:
    # Claude Sonnet 4.5's rates: 3 in, 15 out, 0.30 read, 3.75 and 6 written.
    prices = Prices(Rate(3_000_000), Rate(15_000_000), Rate(300_000), Rate(3_750_000), Rate(6_000_000))
    usage = Usage(10_000, 500, cache_read_tokens=6_000, cache_write_tokens=3_000, cache_write_1h_tokens=1_000)
    # 1000·3 + 6000·0.3 + 2000·3.75 + 1000·6 + 500·15 micro-dollars
    assert cost_nano(prices, usage) == 25_800_000


def test_reasoning_has_a_price_of_its_own_where_it_is_given() -> None:
    prices = Prices(Rate(1000), Rate(10_000), reasoning=Rate(3000, ((100, 5000),)))
    assert cost_pico(prices, Usage(100, 50, reasoning_tokens=20)) == 100 * 1000 + 30 * 10_000 + 20 * 3000
    assert cost_pico(prices, Usage(101, 50, reasoning_tokens=20)) == 101 * 1000 + 30 * 10_000 + 20 * 5000
    assert cost_pico(prices, Usage(0, 10, reasoning_tokens=40)) == 40 * 3000  # a part that exceeds its whole is billed


RATE = st.builds(
    Rate, st.integers(0, 10**8), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**8)), max_size=2).map(
        lambda above: tuple(sorted(above))
    )
)
PRICES = st.builds(Prices, RATE, RATE, *[st.none() | RATE for _ in range(4)])


@settings(max_examples=1000, deadline=None)
@given(PRICES, usages(), COUNT, COUNT)
def test_nothing_costs_more_than_the_upper_bound(prices: Prices, usage: Usage, more_in: int, more_out: int) -> None:
    bound = upper_nano(prices, usage.input_tokens + more_in, usage.output_tokens + more_out)
    assert cost_nano(prices, usage) <= bound


def test_the_upper_bound_is_no_more_than_the_dearest_kinds_cost() -> None:
    prices = Prices(Rate(3000), Rate(15000), Rate(1000), Rate(4000), Rate(6000, ((200, 12000),)), reasoning=Rate(20000))
    assert upper_nano(prices, 200_000, 1000) == 200_000 * 12 + 1000 * 20
    assert upper_nano(prices, 201, 1000) == 201 * 12 + 1000 * 20
    assert upper_nano(prices, 200, 1000) == 200 * 6 + 1000 * 20
    assert upper_nano(FREE, 10**6, 10**6) == 0


def test_half_a_nano_dollar_rounds_up() -> None:
    assert [to_nano(pico) for pico in (0, 499, 500, 1499, 1500)] == [0, 0, 1, 1, 2]
    assert cost_nano(Prices(Rate(500), Rate(0)), Usage(input_tokens=1)) == 1


def test_long_context_begins_above_its_start_and_prices_every_token() -> None:
    prices = Prices(Rate(1000, ((200, 2000),)), Rate(10, ((200, 20),)))
    assert cost_pico(prices, Usage(200, 1)) == 200_010
    assert cost_pico(prices, Usage(201, 1)) == 402_020


@settings(deadline=None)
@given(usages(), st.integers(0, 10**7), st.integers(0, 10**7))
def test_counts_that_contradict_each_other_never_make_it_cheaper_than_their_parts(
    usage: Usage, input_rate: int, output_rate: int
) -> None:
    prices = Prices(Rate(input_rate), Rate(output_rate))
    broken = Usage(0, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens, 10**9)
    parts = usage.cache_read_tokens + usage.cache_write_tokens
    assert cost_pico(prices, broken) == parts * input_rate + usage.output_tokens * output_rate
    assert cost_nano(FREE, usage) == 0


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_dollars_are_plain_and_exact(nano: int) -> None:
    text = usd(nano)
    assert Decimal(text) == Decimal(nano) / 10**9
    assert "e" not in text.lower()
    assert 6 <= len(text.split(".")[1]) <= 9


def test_dollars_as_they_look() -> None:
    assert [usd(n) for n in (0, 1, 3000, 4_210_000, 1_500_000_000, 1_234_567_891, -25)] == [
        "0.000000",
        "0.000000001",
        "0.000003",
        "0.004210",
        "1.500000",
        "1.234567891",
        "-0.000000025",
    ]
