"""The catalogue: prices by source and date, and what a client's `model` means."""

from __future__ import annotations

import difflib
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aion_extproc.accounting.cost import cost_nano
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.build import build
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import FREE, Model, Prices, Rate
from aion_extproc.config.load import loads
from aion_extproc.providers import ALL, KINDS
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def catalog(text: str, at: datetime = AT) -> Catalog:
    return build(loads(text, "aion.yaml", {}), at)


def only(text: str, at: datetime = AT) -> Model:
    (model,) = catalog(text, at).models
    return model


def test_without_a_price_the_list_is_asked() -> None:
    model = only("providers: {openai: {api_key: k, models: [{id: gpt-4o-mini, tier: 1}]}}")
    assert model.prices == Prices(Rate(150_000), Rate(600_000), cache_read=Rate(75_000))
    assert model.context_window == 128_000


def test_a_configured_price_wins_whole_and_exactly() -> None:
    model = only(
        "providers: {openai: {api_key: k, models: [{id: gpt-4o-mini, tier: 1, "
        "input_price_per_1m: 0.1, output_price_per_1m: 0.3}]}}"
    )
    # The list's price for cached reads belongs to the list's input price, so it does not mix in.
    assert model.prices == Prices(Rate(100_000), Rate(300_000))
    assert model.context_window == 128_000


def test_an_unknown_price_is_unknown_and_said() -> None:
    made = catalog("providers: {openai: {api_key: k, models: [{id: gpt-99, tier: 1}]}}")
    assert made.models[0].prices is None
    assert made.warnings == (
        "openai/gpt-99: its price is unknown (genai-prices openai has no model of this name), so its cost will "
        "be unknown too; set input_price_per_1m and output_price_per_1m",
    )


def test_a_model_listed_without_token_prices_is_unknown_not_free() -> None:
    made = catalog("providers: {gemini: {api_key: k, models: [{id: gemma-3, tier: 1}]}}")
    assert made.models[0].prices is None
    assert "without a price for tokens" in made.warnings[0]


def test_a_charge_we_cannot_count_makes_the_price_unknown() -> None:
    made = catalog(
        "providers: {pplx: {kind: openai, base_url: 'https://api.perplexity.ai', models: [{id: sonar, tier: 1}]}}"
    )
    assert made.models[0].prices is None
    assert "requests_kcount" in made.warnings[0]


def test_openrouters_free_variants_are_free() -> None:
    model = only("providers: {openrouter: {api_key: k, models: [{id: 'openai/gpt-oss-20b:free', tier: 1}]}}")
    assert model.prices == FREE


def test_local_models_are_free_whatever_the_file_says() -> None:
    made = catalog("providers: {local: {models: [{id: q, tier: 1, input_price_per_1m: 9, output_price_per_1m: 9}]}}")
    assert made.models[0].prices == FREE
    assert made.models[0].local
    assert "ignored" in made.warnings[0]


def test_a_managed_server_has_the_window_it_is_started_with() -> None:
    model = only("providers: {local: {models: [{id: q, tier: 1}], managed: {model_path: m, ctx_size: 2048}}}")
    assert model.context_window == 2048


def test_a_compatible_vendor_has_its_own_prices() -> None:
    theirs = only(
        "providers: {ds: {kind: openai, base_url: 'https://api.deepseek.com/v1', "
        "models: [{id: deepseek-chat, tier: 1}]}}"
    )
    assert theirs.prices is not None
    proxied = only(
        "providers: {corp: {kind: openai, base_url: 'https://llm.corp/v1', models: [{id: gpt-4o-mini, tier: 1}]}}"
    )
    assert proxied.prices == Prices(Rate(150_000), Rate(600_000), cache_read=Rate(75_000))


def test_prices_are_those_of_the_day() -> None:
    text = "providers: {gemini: {api_key: k, models: [{id: gemini-3.8-flash, tier: 2}]}}"
    before = catalog(text)
    assert before.valid_until == datetime(2027, 1, 1, tzinfo=UTC)
    after = catalog(text, before.valid_until)
    assert before.models[0].prices != after.models[0].prices
    assert catalog("providers: {local: {models: [{id: q, tier: 1}]}}").valid_until is None


@pytest.mark.parametrize(
    ("kind", "id"), [(kind.name, model.id) for kind in ALL for model in kind.default_models if kind.name != "demo"]
)
def test_every_default_model_has_a_price_and_a_window(kind: str, id: str) -> None:
    place = "".join(f"{key}: x, " for key in KINDS[kind].place)
    model = only(f"providers: {{{kind}: {{api_key: k, {place}models: [{{id: '{id}', tier: 1}}]}}}}")
    assert model.prices not in (None, FREE)
    assert model.context_window is not None


@pytest.mark.parametrize(
    ("provider", "listed"),
    [
        ("bedrock: {api_key: k, region: us-east-1, models: [{id: ID, tier: 1}]}", listed)
        for listed in (
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "anthropic.claude-haiku-4-5-20251001-v1:0",
            "global.anthropic.claude-opus-4-8",
            "eu.anthropic.claude-opus-5-5",
        )
    ]
    + [
        ("vertex: {project: p, region: global, models: [{id: ID, tier: 1}]}", listed)
        for listed in ("claude-haiku-4-5@20251001", "claude-opus-4-1@20250805", "claude-sonnet-5-5")
    ]
    + [("azure: {resource: r, api_key: k, models: [{id: ID, tier: 1}]}", listed) for listed in ("gpt-5.4", "o3-mini")],
)
def test_the_clouds_names_of_models_have_prices(provider: str, listed: str) -> None:
    made = catalog(f"providers: {{{provider.replace('ID', repr(listed))}}}")
    assert made.warnings == ()
    assert made.models[0].prices not in (None, FREE)


def test_a_region_is_dearer_than_the_globe() -> None:
    text = "providers: {bedrock: {region: us-east-1, models: [{id: %s.anthropic.claude-opus-5-5, tier: 3}]}}"
    regional, everywhere = only(text % "us").prices, only(text % "global").prices
    assert regional is not None
    assert everywhere is not None
    assert regional.output.base > everywhere.output.base


def test_what_a_model_can_be_asked_on_follows_from_its_mode_and_provider() -> None:
    made = catalog(
        "providers: {openai: {api_key: k, models: [{id: gpt-4o-mini, tier: 1}, {id: text-embedding-3-small, mode: "
        "embedding}, {id: gpt-3.5-turbo-instruct, mode: completion}]}, "
        "anthropic: {api_key: k, models: [{id: claude-haiku-4-5, tier: 1}]}, "
        "groq: {api_key: k, models: [{id: x, mode: embedding, input_price_per_1m: 1, output_price_per_1m: 0}]}}"
    )
    assert made.warnings == ()
    chat, embedding, completion, claude, nothing = made.models
    assert [model.tier for model in made.models] == [1, 0, 0, 1, 0]
    assert chat.endpoints == {Endpoint.CHAT, Endpoint.RESPONSES}
    assert embedding.endpoints == {Endpoint.EMBEDDINGS}
    assert completion.endpoints == {Endpoint.COMPLETIONS}
    assert claude.endpoints == {Endpoint.MESSAGES, Endpoint.COUNT_TOKENS}
    assert nothing.endpoints == frozenset()
    assert embedding.prices == Prices(Rate(20_000), Rate(0))
    assert Catalog.from_json(made.to_json()).models == made.models


TWO = """
providers:
  openai: {api_key: k, models: [{id: gpt-5.4, tier: 3}, {id: openai/x, tier: 1}, {id: x, tier: 2}]}
  openrouter: {api_key: k, models: [{id: openai/gpt-5.4, tier: 3}, {id: gpt-5.4, tier: 2}]}
  anthropic: {enabled: false}
"""


def found(made: Catalog, asked: str) -> list[tuple[str, str]]:
    return [(model.provider, model.id) for model in made.resolve(asked).models]


def test_an_id_means_that_model_wherever_it_is() -> None:
    made = catalog(TWO)
    assert found(made, "gpt-5.4") == [("openai", "gpt-5.4"), ("openrouter", "gpt-5.4")]
    assert found(made, "openrouter/gpt-5.4") == [("openrouter", "gpt-5.4")]
    assert found(made, "openrouter/openai/gpt-5.4") == [("openrouter", "openai/gpt-5.4")]


def test_an_id_with_a_slash_is_an_id_first() -> None:
    made = catalog(TWO)
    assert found(made, "openai/gpt-5.4") == [("openrouter", "openai/gpt-5.4")]
    assert found(made, "openai/x") == [("openai", "openai/x")]


def test_virtual_names_and_unknown_ones() -> None:
    made = catalog(TWO)
    assert made.resolve("aion-auto").virtual == "aion-auto"
    unknown = made.resolve("gtp-5.4")
    assert (unknown.virtual, unknown.models) == (None, ())
    assert unknown.near[0] == "gpt-5.4"
    assert made.resolve("AION-AUT").near[0] == "aion-auto"
    assert made.resolve("x" * 10_000).near == ()
    assert made.names[:4] == ("aion-auto", "aion-local", "aion-escalate", "gpt-5.4")
    assert len(set(made.names)) == len(made.names)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_name_gets_an_answer_of_at_most_five_names(asked: str) -> None:
    near = catalog("providers: {local: {models: [{id: q, tier: 1}]}}").resolve(asked).near
    assert len(near) <= 5
    assert all(difflib.SequenceMatcher(None, asked.lower(), name).ratio() > 0.4 for name in near)


RATES = st.builds(
    Rate,
    st.integers(0, 10**8),
    st.lists(
        st.tuples(st.sampled_from([0, 10, 1000, 200_000]), st.integers(0, 10**8)), max_size=2, unique_by=lambda t: t[0]
    ).map(lambda tiers: tuple(sorted(tiers))),
)
PRICES = st.builds(Prices, RATES, RATES, *[st.none() | RATES for _ in range(4)])
MODELS = st.lists(st.none() | PRICES, max_size=6).map(
    lambda prices: [
        Model(
            f"m{i}",
            "p",
            1 + i % 3,
            price,
            None if i % 2 else i + 1,
            i == 3,
            frozenset([Format.OPENAI]),
            endpoints=frozenset(list(Endpoint)[:i]),
            service_tiers=() if price is None else (("flex", price), ("priority", FREE)),
            parameters_m=None if i % 2 else (i, 1000 * i),
            reasoning_apart=i == 1,
        )
        for i, price in enumerate(prices)
    ]
)


@settings(deadline=None)
@given(MODELS, st.integers(0, 300_000), st.integers(0, 10_000), st.data())
def test_the_dearest_is_the_dearest(models: list[Model], total: int, output: int, data: st.DataObject) -> None:
    read = data.draw(st.integers(0, total))
    write = data.draw(st.integers(0, total - read))
    hour, reasoning = data.draw(st.integers(0, write)), data.draw(st.integers(0, output))
    usage = Usage(total, output, read, write, hour, reasoning)
    dearest = Catalog(models).dearest(usage)
    costs = [cost_nano(model.prices, usage) for model in models if model.prices is not None]
    if dearest is None:
        assert not costs
    else:
        model, cost = dearest
        assert model.prices is not None
        assert cost == cost_nano(model.prices, usage) == max(costs)


@settings(deadline=None)
@given(MODELS, st.none() | st.just(AT))
def test_a_worker_gets_the_same_catalogue(models: list[Model], until: datetime | None) -> None:
    made = Catalog(models, ["careful"], until, "m0" if models else "")
    loaded = Catalog.from_json(made.to_json())
    assert loaded.models == made.models
    assert (loaded.warnings, loaded.valid_until) == (made.warnings, made.valid_until)
    assert loaded.baseline == made.baseline == (models[0] if models else None)
    assert [one.prices_at("flex") for one in loaded.models] == [one.prices_at("flex") for one in models]


@pytest.mark.parametrize("module", ["genai_prices", "pydantic", "ruamel.yaml", "httpx"])
def test_a_worker_that_loads_a_catalogue_and_routes_needs_no(module: str) -> None:
    text = Catalog([]).to_json()
    code = (
        "import sys\n"
        "from aion_extproc.catalog.catalog import Catalog\n"
        "import aion_extproc.routing.route\n"
        f"Catalog.from_json({text!r})\n"
        f"sys.exit({module!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
