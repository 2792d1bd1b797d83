"""Metrics from ledger rows, read back with Prometheus' own parser."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from aion_extproc.accounting.metrics import (
    GEN_AI_DURATION,
    GEN_AI_TOKENS,
    SECONDS,
    Metrics,
    exposition,
    forget_process,
)
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.accounting.usage import Usage

spawn = multiprocessing.get_context("spawn")

MODELS = ("aion-auto", "small", "big")
PROVIDERS = ("openai", "gemini")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

SERVED = LedgerRow(
    request_id="r",
    at_ms=1,
    outcome="served",
    status=200,
    format="openai",
    stream=True,
    key_name="development",
    tenant="acme",
    asked_model="aion-auto",
    model="small",
    provider="openai",
    tier=1,
    usage=Usage(100, 21, cache_read_tokens=40, reasoning_tokens=5),
    cost_nano=2_000_000,
    baseline_nano=50_000_000,
    latency_ms=1500,
    ttft_ms=500,
)


def parse(text: bytes) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def observed(rows: Iterable[LedgerRow]) -> Samples:
    metrics = Metrics(MODELS, PROVIDERS)
    for row in rows:
        metrics.observe(row)
    metrics.flush()
    return parse(exposition(metrics.registry))


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


GEN_AI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "aion-auto",
    "gen_ai_response_model": "small",
}


def test_a_served_stream_counts_everywhere() -> None:
    samples = observed([SERVED])
    model = {"provider": "openai", "model": "small"}
    assert (
        value(samples, "aion_requests_total", format="openai", tier="1", outcome="served", status="200", **model) == 1
    )
    for type_, tokens in (("input", 100), ("output", 21), ("cache_read", 40), ("reasoning", 5)):
        assert value(samples, "aion_tokens_total", type=type_, **model) == tokens
    assert value(samples, "aion_cost_usd_total", **model) == 0.002
    assert value(samples, "aion_savings_usd_total") == 0.048
    assert value(samples, "aion_unpriced_requests_total") == 0
    assert value(samples, "aion_request_duration_seconds_sum", tier="1", outcome="served") == 1.5
    assert value(samples, "aion_ttft_seconds_sum", tier="1", stream="true") == 0.5
    assert value(samples, "gen_ai_client_token_usage_sum", gen_ai_token_type="input", **GEN_AI) == 100
    assert value(samples, "gen_ai_client_token_usage_sum", gen_ai_token_type="output", **GEN_AI) == 21
    assert value(samples, "gen_ai_server_request_duration_seconds_sum", error_type="", **GEN_AI) == 1.5
    assert value(samples, "gen_ai_server_time_to_first_token_seconds_sum", **GEN_AI) == 0.5
    assert value(samples, "gen_ai_server_time_per_output_token_seconds_sum", **GEN_AI) == 0.05


def test_observed_rows_show_after_flush_and_only_once() -> None:
    metrics = Metrics(MODELS, PROVIDERS)
    metrics.observe(SERVED)
    metrics.classified(0.0001)
    assert "aion_requests_total{" not in exposition(metrics.registry).decode()
    for _ in range(3):
        metrics.flush()
    samples = parse(exposition(metrics.registry))
    assert sum(v for (name, _), v in samples.items() if name == "aion_requests_total") == 1
    assert value(samples, "aion_classify_seconds_count") == 1


def test_a_refusal_is_an_error_and_no_provider_traffic() -> None:
    refused = LedgerRow(
        request_id="r", at_ms=1, outcome="refused", status=400, format="anthropic", error="invalid_json"
    )
    samples = observed([refused])
    assert value(samples, "aion_errors_total", code="invalid_json") == 1
    labels = {"provider": "", "model": "", "tier": "0", "outcome": "refused", "status": "400"}
    assert value(samples, "aion_requests_total", format="anthropic", **labels) == 1
    assert not [name for name, _ in samples if name.startswith("gen_ai_") and name.endswith("_count")]


def test_failures_carry_model_and_provider() -> None:
    samples = observed([replace(SERVED, outcome="failed", status=503, error="upstream_503", cost_nano=None)])
    model = {"provider": "openai", "model": "small"}
    assert (
        value(samples, "aion_requests_total", format="openai", tier="1", outcome="failed", status="503", **model) == 1
    )
    assert value(samples, "gen_ai_server_request_duration_seconds_count", error_type="503", **GEN_AI) == 1
    assert value(samples, "aion_unpriced_requests_total") == 0


def test_an_estimate_counts_as_tokens_and_not_as_reported_usage() -> None:
    samples = observed([replace(SERVED, outcome="cut", estimated=True)])
    assert value(samples, "aion_tokens_total", provider="openai", model="small", type="input") == 100
    assert not [name for name, _ in samples if name == "gen_ai_client_token_usage_count"]
    assert not [name for name, _ in samples if name == "gen_ai_server_time_to_first_token_seconds_count"]


def test_an_unknown_price_is_counted_and_costs_nothing() -> None:
    samples = observed([replace(SERVED, cost_nano=None)])
    assert value(samples, "aion_unpriced_requests_total") == 1
    assert value(samples, "aion_savings_usd_total") == 0


def test_provider_names_are_those_of_the_convention() -> None:
    samples = observed([replace(SERVED, provider="gemini", model="big")])
    labels = GEN_AI | {"gen_ai_provider_name": "gcp.gemini", "gen_ai_response_model": "big"}
    assert value(samples, "gen_ai_server_request_duration_seconds_count", error_type="", **labels) == 1
    assert value(samples, "aion_tokens_total", provider="gemini", model="big", type="output") == 21


names = st.text(max_size=12)


@given(
    st.lists(
        st.builds(
            lambda provider, model, asked, error, status, key: replace(
                SERVED,
                provider=provider,
                model=model,
                asked_model=asked,
                error=error,
                status=status,
                key_name=key,
                tenant=key,
            ),
            names | st.sampled_from(PROVIDERS),
            names | st.sampled_from(MODELS),
            names | st.sampled_from(MODELS),
            names | st.sampled_from(["upstream_reset", "x" * 60]),
            st.integers(-1, 2000),
            st.just("a-key-or-tenant"),
        ),
        max_size=20,
    )
)
def test_label_values_are_bounded_whatever_the_rows_say(rows: list[LedgerRow]) -> None:
    samples = observed(rows)
    allowed = {
        "provider": {*PROVIDERS, "other", ""},
        "model": {*MODELS, "other", ""},
        "gen_ai_provider_name": {"openai", "gcp.gemini", "other"},
        "gen_ai_request_model": {*MODELS, "other", ""},
        "gen_ai_response_model": {*MODELS, "other", ""},
        "status": {*map(str, range(600)), "other"},
    }
    for _, labels in samples:
        for name, label in labels:
            assert label in allowed.get(name, {label})
            assert "a-key-or-tenant" not in label
            assert name != "code" or (label.isascii() and len(label) <= 48)
    total = sum(v for (name, _), v in samples.items() if name == "aion_requests_total")
    assert total == len(rows)


def test_error_codes_beyond_a_number_become_other() -> None:
    samples = observed(replace(SERVED, error=f"code_{n}") for n in range(500))
    codes = [v for (name, _), v in samples.items() if name == "aion_errors_total"]
    assert len(codes) <= 65
    assert sum(codes) == 500


@given(st.lists(st.sampled_from([*SECONDS, *GEN_AI_DURATION]) | st.floats(0, 2000), min_size=1, max_size=30))
def test_buckets_hold_what_observing_one_by_one_would(seconds: list[float]) -> None:
    rows = [replace(SERVED, latency_ms=each * 1000, ttft_ms=None) for each in seconds]
    samples = observed(rows)
    for bound in SECONDS:
        expected = sum(row.latency_ms / 1000 <= bound for row in rows)
        labels = {"tier": "1", "outcome": "served", "le": str(float(bound))}
        assert value(samples, "aion_request_duration_seconds_bucket", **labels) == expected
    labels = {"tier": "1", "outcome": "served", "le": "+Inf"}
    assert value(samples, "aion_request_duration_seconds_bucket", **labels) == len(seconds)


def test_bucket_boundaries_are_those_of_the_convention() -> None:
    assert GEN_AI_TOKENS[:3] + GEN_AI_TOKENS[-1:] == (1, 4, 16, 67108864)
    assert (
        str(GEN_AI_DURATION)
        == "(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)"
    )


def work(rows: int, parent: Connection) -> None:
    """A worker process: counts rows, opens two streams, says so, and lives until the parent hangs up."""
    metrics = Metrics(MODELS, PROVIDERS)
    metrics.streams.inc(2)
    for _ in range(rows):
        metrics.observe(SERVED)
    metrics.flush()
    parent.send("counted")
    with suppress(EOFError):
        parent.recv()


def test_two_processes_are_added_up_and_a_dead_ones_counters_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    pipes = [spawn.Pipe() for _ in range(2)]
    workers = [
        spawn.Process(target=work, args=(rows, theirs), daemon=True)
        for rows, (_, theirs) in zip((30, 12), pipes, strict=True)
    ]
    try:
        for worker in workers:
            worker.start()
        for ours, theirs in pipes:
            theirs.close()  # so that a child that dies is an EOFError here
            assert ours.recv() == "counted"
        labels = {"tier": "1", "outcome": "served"}
        samples = parse(exposition())
        assert value(samples, "aion_request_duration_seconds_count", **labels) == 42
        assert value(samples, "aion_tokens_total", provider="openai", model="small", type="input") == 4200
        assert value(samples, "aion_extproc_streams") == 4

        dead = workers[0]
        assert dead.pid is not None
        os.kill(dead.pid, signal.SIGKILL)
        dead.join(10)
        forget_process(dead.pid)
        samples = parse(exposition())
        assert value(samples, "aion_request_duration_seconds_count", **labels) == 42
        assert value(samples, "aion_extproc_streams") == 2
    finally:
        for ours, _ in pipes:
            ours.close()
        for worker in workers:
            worker.join(10)


def test_a_directory_set_too_late_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match="after prometheus_client was imported"):
        Metrics((), ())
