"""A configuration file as its writer means it: what it may say, and that what people read of it is so."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from aion_extproc.catalog.build import build
from aion_extproc.config.load import loads
from aion_extproc.config.schema import Settings
from tests.unit.test_config_errors import errors

ROOT = Path(__file__).parents[2]

# The file of the seed, but for its budget, whose enforcement comes later.
SEED = """
providers:
  openai:
    api_key: "${OPENAI_API_KEY}"
    models:
    - { id: "gpt-4o-mini", tier: 1, input_price_per_1m: 0.15, output_price_per_1m: 0.60 }
    - { id: "gpt-4o", tier: 2, input_price_per_1m: 2.50, output_price_per_1m: 10.00 }
    - { id: "o1", tier: 3, input_price_per_1m: 15.00, output_price_per_1m: 60.00 }
  local:
    enabled: true
    models:
    - id: "qwen2.5-1.5b-instruct"
      tier: 1
    managed:
      binary_path: "llama-server"
      model_path: "./models/qwen2.5-1.5b-instruct-q4_k_m.gguf"
      port: 8081
      threads: 4
      ctx_size: 4096
      ready_timeout: "120s"
auth:
  enabled: true
  keys:
  - key: "sk-aion-dev-key-change-me"
    name: "development"
routing:
  strategy: "cheapest" # cheapest | fallback
  classifier:
    tier1_threshold: 0.35 # score < 0.35 → Tier 1
    tier2_threshold: 0.70
  fallback_enabled: true
telemetry:
  db_path: "./data/aion.db"
  batch_size: 100
  flush_interval: "5s"
"""


def test_the_seeds_file_is_read_as_it_means() -> None:
    settings = loads(SEED, "aion.yaml", {"OPENAI_API_KEY": "sk-real"})
    openai = settings.providers["openai"]
    assert openai.api_key is not None
    assert openai.api_key.get_secret_value() == "sk-real"
    assert [model.input_price_per_1m for model in openai.models] == [Decimal("0.15"), Decimal("2.5"), 15]
    local = settings.providers["local"]
    assert local.kind == "llama.cpp"
    assert local.managed is not None
    assert local.managed.ready_timeout == 120.0
    assert settings.auth.enabled
    assert settings.telemetry.flush_interval == 5.0
    assert settings.routing.classifier.tier1_threshold == 0.35


def test_an_empty_file_is_all_defaults() -> None:
    assert loads("# nothing yet\n", "aion.yaml", {}) == Settings()


@settings(deadline=None)
@given(st.decimals(min_value=0, max_value=1000, places=6))
def test_a_price_is_what_was_written_to_the_last_digit(price: Decimal) -> None:
    text = f"{price:f}"
    settings = loads(
        "providers: {openai: {api_key: k, models: [{id: m, tier: 1, "
        f"input_price_per_1m: {text}, output_price_per_1m: '{text}'}}]}}}}",
        "x",
        {},
    )
    model = settings.providers["openai"].models[0]
    assert model.input_price_per_1m == model.output_price_per_1m == Decimal(text)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("5s", 5.0), ("500ms", 0.5), ("2m", 120.0), ("1.5h", 5400.0), ("7", 7.0), (7, 7.0), ("0.25", 0.25)],
)
def test_durations(written: object, expected: float) -> None:
    assert loads(f"gateway: {{idle_timeout: {written}}}", "x", {}).gateway.idle_timeout == expected


@pytest.mark.parametrize(
    "entry",
    [
        "bedrock: {region: us-east-1, M}",
        "bedrock: {api_key: k, base_url: 'https://vpce.example', M}",
        "vertex: {project: 'example.com:p', region: global, M}",
        "azure: {api_key: k, base_url: 'https://x.openai.azure.com', M}",
        "bedrock: {enabled: false}",
    ],
)
def test_what_the_clouds_need_and_no_more(entry: str) -> None:
    models = "models: [{id: m, tier: 1}]"
    loads(f"providers: {{{entry.replace('M', models)}}}", "x", {})


# --- environment


def key_of(text: str, **env: str) -> str:
    settings = loads(f"auth:\n  keys:\n    - name: a\n      key: {text}\n", "x", env)
    return settings.auth.keys[0].key.get_secret_value()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("$A", "va"),
        ("${A}", "va"),
        ("'x${A}y$B'", "xvayvb"),
        ("'${NONE:-plan-b}'", "plan-b"),
        ("'${EMPTY:-plan-b}'", "plan-b"),
        ("'${A:-plan-b}'", "va"),
        ("'$$A'", "$A"),
        ("'5$'", "5$"),
        ("'$5'", "$5"),
    ],
)
def test_variables_expand(written: str, expected: str) -> None:
    assert key_of(written, A="va", B="vb", EMPTY="") == expected


def test_a_variables_value_is_not_yaml() -> None:
    assert key_of("${A}", A="x}]}#&*!!str") == "x}]}#&*!!str"
    assert key_of("${A}", A="$B", B="no") == "$B"


def test_a_number_may_come_from_the_environment() -> None:
    assert loads("gateway: {port: '${PORT}'}", "x", {"PORT": "8099"}).gateway.port == 8099


def test_an_unset_variable_is_named_with_its_place() -> None:
    (error,) = errors("providers:\n  xai:\n    api_key: $XAI_API_KEY\n    models: [{id: a, tier: 1}]\n")
    assert error == (
        "aion.yaml:3: providers.xai.api_key: the environment variable XAI_API_KEY is not set; set it, "
        "or put enabled: false under providers.xai"
    )


def test_a_disabled_provider_may_name_unset_variables_and_lack_things() -> None:
    settings = loads("providers: {xai: {enabled: false, api_key: $XAI_API_KEY}}\n" + "auth: {}", "x", {})
    assert not settings.enabled_providers
    assert loads("providers: {xai: {enabled: '${ON:-false}', api_key: $K}}", "x", {}).enabled_providers == {}


def test_a_malformed_variable_is_an_error() -> None:
    assert "${ that is not" in errors("telemetry: {db_path: 'a${'}")[0]


# --- the files that people read


def test_the_example_loads_and_every_model_in_it_has_a_price() -> None:
    env = {"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-ant-x"}
    settings = loads((ROOT / "aion.example.yaml").read_text(), "aion.example.yaml", env)
    catalog = build(settings)
    assert catalog.warnings == ()
    assert {model.tier for model in catalog.models} == {1, 2, 3}


def test_the_example_also_loads_with_everything_in_it_switched_on() -> None:
    text = (ROOT / "aion.example.yaml").read_text().replace("enabled: false", "enabled: true")
    env = {"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-ant-x", "CEREBRAS_API_KEY": "csk"}
    settings = loads(text, "x", env)
    assert set(settings.enabled_providers) == {"openai", "anthropic", "local", "bedrock", "cerebras"}
    assert build(settings).warnings == ()


def section_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_in, typing.get_args(annotation))), None)


def documented(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, object]]:
    for name, field in model.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None and name not in ("long_context", "service_tiers"):  # prices once more, by the same names
            lists = ("models", "keys", "chains", "steps", "webhooks")
            named = ("providers", "tenants", "services", "tasks")
            marker = ".<name>" if name in named else "[]" if name in lists else ""
            yield from documented(inner, f"{prefix}{name}{marker}.")
        else:
            yield prefix + name, field.default


def test_the_manual_has_every_key_with_its_default() -> None:
    manual = (ROOT / "docs" / "configuration.md").read_text()
    rows = {row.split("`")[1]: row.split("|")[2].strip() for row in manual.splitlines() if row.startswith("| `")}
    keys = dict(documented(Settings, ""))
    assert len(keys) > 40
    assert not keys.keys() - rows.keys()
    for key, default in keys.items():
        written = rows[key].strip("`")
        if isinstance(default, bool):
            assert str(default).lower() in written, key
        elif isinstance(default, int) or (isinstance(default, str) and default):
            assert written == str(default), key
        elif isinstance(default, float) and not key.endswith("threshold"):
            assert loads(f"gateway: {{idle_timeout: {written}}}", "x", {}).gateway.idle_timeout == default, key
