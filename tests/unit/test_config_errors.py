"""What is said back when a configuration file is wrong, whatever is in it; and that no secret is in what is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aion_extproc.config.errors import ConfigError, Problem
from aion_extproc.config.load import load, loads


def errors(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "aion.yaml", env)
    return str(caught.value).split("\n")


@pytest.mark.parametrize("written", ["0", "-1s", "5 weeks", "''", "true", "[1]", ".nan", ".inf", "1e299", "9" * 400])
def test_what_is_no_duration_is_refused(written: str) -> None:
    (error,) = errors(f"gateway:\n  idle_timeout: {written}")
    assert error.startswith("aion.yaml:2: gateway.idle_timeout: must be")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "gateway:\n  prot: 1\n",
            'aion.yaml:2: gateway.prot: unknown key; did you mean "port"?',
        ),
        (
            "\n\nprovider: {}\n",
            'aion.yaml:3: provider: unknown key; did you mean "providers"?',
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models:\n      - {id: a, tier: 1}\n      - id: b\n"
            "        teir: 1\n        tier: 1\n",
            'aion.yaml:7: providers.openai.models[1].teir: unknown key; did you mean "tier"?',
        ),
        (
            "routing: {wibble: 1}",
            "aion.yaml:1: routing.wibble: unknown key; known here: strategy, classifier, tasks, fallback_enabled, "
            "prefer_native, chains, baseline, sessions",
        ),
        (
            "providers: {local: {models: [{id: a, tier: 1}], managed: {model_path: x, prt: 1}}}",
            'aion.yaml:1: providers.local.managed.prt: unknown key; did you mean "port"?',
        ),
        (
            "routing:\n  strategy: best\n",
            "aion.yaml:2: routing.strategy: must be 'cheapest' or 'fallback'",
        ),
        (
            "routing:\n  classifier:\n    tier1_threshold: 0.8\n",
            "aion.yaml:3: routing.classifier.tier1_threshold: must not be above tier2_threshold",
        ),
        (
            "providers:\n  openai:\n    models: [{id: a, tier: 1}]\n",
            'aion.yaml:2: providers.openai: api_key is missing; for example api_key: "${OPENAI_API_KEY}"',
        ),
        (
            "providers:\n  openai:\n    api_key: k\n",
            "aion.yaml:2: providers.openai.models: needs at least one model: - {id: …, tier: 1}",
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models:\n      - {id: a, tier: 1}\n      - {id: a, tier: 2}\n",
            "aion.yaml:6: providers.openai.models[1].id: this model is listed twice; drop one",
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models:\n      - {id: aion-auto, tier: 1}\n",
            "aion.yaml:5: providers.openai.models[0].id: "
            '"aion-auto" is a name of the gateway\'s own; a model cannot have it',
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models:\n"
            "      - {id: a, tier: 1, input_price_per_1m: -0.1, output_price_per_1m: 1}\n",
            "aion.yaml:5: providers.openai.models[0].input_price_per_1m: must not be negative",
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models:\n      - {id: a, tier: 1, input_price_per_1m: 1}\n",
            "aion.yaml:5: providers.openai.models[0]: output_price_per_1m is missing: give both prices or neither",
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models: [{id: a, tier: 1}]\n    managed: {model_path: x}\n",
            'aion.yaml:5: providers.openai.managed: only a provider of kind "llama.cpp" (or "local") can be managed',
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    base_url: openai.example\n    models: [{id: a, tier: 1}]\n",
            "aion.yaml:4: providers.openai.base_url: must begin with http:// or https://",
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models: [{id: a}]\n",
            "aion.yaml:4: providers.openai.models[0]: tier is missing: 1 for simple, 2 for moderate, "
            "3 for hard requests",
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models: [{id: a, mode: embedding, tier: 1}]\n",
            "aion.yaml:4: providers.openai.models[0].tier: a model of mode embedding has no tier: it is only reached "
            "by its name",
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    models: [{id: a, mode: image}]\n",
            "aion.yaml:4: providers.openai.models[0].mode: must be 'chat', 'embedding' or 'completion'",
        ),
        (
            "providers:\n  bedrock:\n    models: [{id: a, tier: 1}]\n",
            "aion.yaml:2: providers.bedrock: region is missing; for example region: us-east-1",
        ),
        (
            "providers:\n  bedrock:\n    base_url: https://vpce.example\n    models: [{id: a, tier: 1}]\n",
            "aion.yaml:2: providers.bedrock: region is missing; for example region: us-east-1",
        ),
        (
            "providers:\n  vertex:\n    base_url: https://x\n    region: global\n    models: [{id: a, tier: 1}]\n",
            "aion.yaml:2: providers.vertex: project is missing; for example project: my-project",
        ),
        (
            "providers:\n  azure:\n    api_key: k\n    models: [{id: a, tier: 1}]\n",
            "aion.yaml:2: providers.azure: resource is missing; for example resource: my-resource",
        ),
        (
            "providers:\n  azure:\n    resource: r\n    models: [{id: a, tier: 1}]\n",
            'aion.yaml:2: providers.azure: api_key is missing; for example api_key: "${AZURE_OPENAI_API_KEY}"',
        ),
        (
            "providers:\n  openai:\n    api_key: k\n    region: eu\n    models: [{id: a, tier: 1}]\n",
            "aion.yaml:4: providers.openai.region: a provider of kind openai has no region; remove it",
        ),
        (
            "providers:\n  bedrock:\n    region: us-east-1/x\n    models: [{id: a, tier: 1}]\n",
            "aion.yaml:3: providers.bedrock.region: must be a name of letters, digits and dashes",
        ),
        (
            "auth:\n  keys:\n    - key: k\n      name: dev\n      budget: {on_limit: reject}\n",
            "aion.yaml:5: auth.keys[0].budget: needs daily_limit_usd, monthly_limit_usd or both",
        ),
        (
            "auth:\n  keys:\n    - {key: a1, name: x}\n    - {key: a2, name: x}\n",
            "aion.yaml:4: auth.keys[1].name: another key has this name; names must differ",
        ),
        (
            "auth:\n  keys:\n    - {key: a1, name: x}\n    - {key: a1, name: y}\n",
            "aion.yaml:4: auth.keys[1].key: another entry has the same key; keys must differ",
        ),
        (
            "gateway:\n  port: 9464\n",
            "aion.yaml:1: gateway.admin_port: must differ from port",
        ),
        (
            "gateway:\n  listen: example.com\n",
            "aion.yaml:2: gateway.listen: must be an IP address, such as 127.0.0.1 or 0.0.0.0",
        ),
        (
            "gateway: 5\n",
            "aion.yaml:1: gateway: must be a mapping of keys to values",
        ),
        (
            "a: 1\ngateway: {}\ngateway: {}\n",
            "aion.yaml:3: gateway: is given twice; the first is on line 2",
        ),
        (
            "gateway: !!python/object/apply:os.system ['true']\n",
            "aion.yaml:1: gateway: has a tag; tags are not read",
        ),
        ("- a\n", "aion.yaml:1: must be a mapping of sections: gateway, providers, auth, routing, telemetry"),
        ("a: &x [*x]\n", "aion.yaml:1: a[0]: refers to itself"),
        ("a: 1\n---\nb: 1\n", "aion.yaml:3: holds several documents; only one is read"),
    ],
)
def test_an_error_names_file_line_key_and_what_to_do(text: str, expected: str) -> None:
    assert errors(text) == [expected]


def test_a_name_that_is_no_kind_needs_one() -> None:
    (error,) = errors("providers:\n  acme:\n    models: [{id: a, tier: 1}]\n")
    assert error.startswith('aion.yaml:2: providers.acme.kind: "acme" is no kind of provider we know; say kind: ')


def test_all_errors_come_at_once_in_the_order_of_the_file() -> None:
    found = errors(
        "providers:\n  openai:\n    api_key: ${NOPE}\n    models: [{id: a, tier: 9}]\n"
        "gateway:\n  port: lots\nrouting:\n  strategy: x\n"
    )
    assert [error.split(":")[1] for error in found] == ["3", "4", "6", "8"]


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "bad.yaml")


def test_broken_yaml_names_the_line() -> None:
    (error,) = errors("gateway:\n  port: [1\n")
    assert error.startswith("aion.yaml:3: is not valid YAML")


def test_a_variable_without_quotes_inside_braces_gets_a_hint() -> None:
    (error,) = errors("auth:\n  keys:\n    - {key: ${KEY}, name: a}\n", KEY="k")
    assert error.startswith("aion.yaml:3: is not valid YAML")
    assert error.endswith('inside { } a "${VARIABLE}" must be in quotes')


# --- secrets


SECRET = st.text("abcXYZ0189_-$!", min_size=12, max_size=40).map(lambda text: "S3CR3T" + text)


@settings(deadline=None)
@given(SECRET, st.sampled_from(["", " with space", "\\n", "é"]))
def test_a_secret_shows_in_no_error_repr_or_dump(secret: str, spoiled: str) -> None:
    env = {"API": secret + spoiled.replace("\\n", "\n"), "KEY": secret}
    good = "providers: {openai: {api_key: '${KEY}', models: [{id: a, tier: 1}]}}\nauth: {keys: [{key: $KEY, name: a}]}"
    settings = loads(good, "x", env)
    assert secret not in repr(settings) + str(settings) + settings.model_dump_json() + str(settings.model_dump())
    for bad in (
        "providers: {openai: {api_key: '${API}', models: 5, $KEY: 1}}",
        "providers: {openai: {api_key: ['${API}']}}",
        "auth: {keys: [{key: '${API}', name: a b}, {key: '${API}', name: c}, '${API}']}",
        "auth: {keys: {a: '${API}'}, enabled: '${API}'}",
        "providers: {openai: {base_url: 'https://user:${KEY}@host/', models: [{id: a, tier: 1}]}}",
    ):
        with pytest.raises(ConfigError) as caught:
            loads(bad, "x", env)
        assert secret not in str(caught.value) + repr(caught.value)
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "written",
    ["*S3CR3T", "!S3CR3T!x", "&a *S3CR3T", '"a$S3CR3T"', "!<S3CR3T", "%S3CR3T"],
)
def test_a_secret_that_yaml_takes_for_something_else_is_not_quoted(written: str) -> None:
    (error, *_) = errors(f"auth: {{admin_secret: {written}}}\n")
    assert "S3CR3T" not in error
    assert error.startswith("aion.yaml:1: ")


@pytest.mark.parametrize(
    ("section", "url"),
    [
        ("state: {redis_url: '%s'}", "redis://:S3@CR3T@host:6379"),
        ("state: {redis_url: '%s'}", "redis://:1/S3CR3T@host"),
        ("telemetry: {db_url: '%s'}", "postgresql://user:S3@CR3T@host/db"),
        ("telemetry: {db_url: '%s'}", "postgresql://user:S3/CR3T@host/db"),
        ("telemetry: {db_path: '%s'}", "postgresql://user:S3CR3T@host/db"),
    ],
)
def test_a_url_whose_password_would_end_up_in_a_name_is_refused(section: str, url: str) -> None:
    (error,) = errors(section % url)
    assert "CR3T" not in error
    assert "%40 and %2F" in error or "db_url" in error


@pytest.mark.parametrize("host", ["0177.0.0.1", "[::1", "host:99999", "xn--"])
def test_a_webhook_that_nothing_could_be_sent_to_is_refused(host: str) -> None:
    found = errors(f"webhooks: [{{url: 'https://{host}/S3CR3T', secret: x}}]")
    assert "aion.yaml:1: webhooks[0].url: is not a URL" in found


@pytest.mark.parametrize("url", ["redis://host/1", "redis://u:p%40%2F@host:1/2?x=a@b/c", "unix:///run/redis.sock"])
def test_other_urls_are_taken(url: str) -> None:
    found = loads(f"state: {{redis_url: '{url}'}}", "x", {}).state.redis_url
    assert found is not None
    assert found.get_secret_value() == url


# --- anything


def problems(text: str) -> tuple[Problem, ...]:
    try:
        loads(text, "x", {})
    except ConfigError as error:
        return error.problems
    return ()


@settings(deadline=None)
@given(st.text())
@example("{" * 1000)
@example("a: " + "9" * 5000)
@example("gateway: {port: 1e999999999}")
@example("? [a]\n: 1")
@example("<<: 5")
@example("<<: {a: 1}")
@example("\x00")
@example("gateway: {<<: *nope}")
def test_no_text_is_worse_than_a_config_error(text: str) -> None:
    assert all(problem.message for problem in problems(text))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab${}:-", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "models", "id"]), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    st.sampled_from(["gateway", "providers", "auth", "routing", "telemetry"]),
    st.sampled_from(["port", "openai", "keys", "classifier", "db_path", "flush_interval", "listen"]),
    PLAIN,
)
def test_no_value_is_worse_than_a_config_error(section: str, key: str, value: object) -> None:
    from ruamel.yaml import YAML
    from ruamel.yaml.compat import StringIO

    text = StringIO()
    YAML(typ="safe", pure=True).dump({section: {key: value}}, text)
    assert all(problem.message for problem in problems(text.getvalue()))
