"""Prometheus metrics of all processes, fed from ledger rows.

prometheus_client's multiprocess mode keeps every value in a file of the process that counts it, and the API
process adds the files up. One observed row touches about 13 of those values, at 1 to 2 µs each; so `observe`
only adds to plain numbers, and `flush`, called about once a second, carries them over.

PROMETHEUS_MULTIPROC_DIR must be set before prometheus_client is first imported, or `name_process` be called. Without it
the metrics are this process's alone.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from aion_extproc.accounting.row import AttemptRow, LedgerRow

OTHER = "other"
MAX_ERROR_CODES = 64
NANO = 1_000_000_000

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CLASSIFY_SECONDS = (0.00002, 0.00005, 0.0001, 0.00015, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05)
# Boundaries the OpenTelemetry GenAI conventions give (docs/gen-ai/gen-ai-metrics.md, semantic-conventions).
GEN_AI_TOKENS = tuple(4.0**power for power in range(14))
GEN_AI_DURATION = tuple(0.01 * 2**power for power in range(14))
GEN_AI_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
GEN_AI_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)

# gen_ai.provider.name has well-known values for these providers of ours.
GEN_AI_PROVIDERS = {
    "xai": "x_ai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
}

_CODE = re.compile(r"[a-z0-9_]{1,48}")
_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")


class BatchHistogram(Histogram):
    """A histogram that takes many observations at once, already sorted into its buckets."""

    def add(self, counts: Iterable[int], total: float) -> None:
        """`counts[i]` observations in bucket i (the last one is +Inf); `total` is the sum of their values."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class _Sample:
    """Observations waiting for a BatchHistogram."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts: list[int] = []  # made when first used: most rows fill only some histograms
        self.total = 0.0

    def add(self, value: float) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def move(self, histogram: BatchHistogram, *labels: str) -> None:
        if self.counts:
            histogram.labels(*labels).add(self.counts, self.total)


class _Cell:
    """What was counted since the last flush for one combination of label values."""

    __slots__ = (
        "cost_nano",
        "duration",
        "first_byte",
        "gen_ai_duration",
        "gen_ai_first_token",
        "gen_ai_input",
        "gen_ai_output",
        "gen_ai_per_token",
        "rows",
        "saved_nano",
        "tokens",
        "unpriced",
    )

    def __init__(self) -> None:
        self.rows = 0
        self.cost_nano = 0
        self.saved_nano = 0
        self.unpriced = 0
        self.tokens = [0, 0, 0, 0, 0]  # in the order of TOKEN_TYPES
        self.duration = _Sample(SECONDS)
        self.first_byte = _Sample(SECONDS)
        self.gen_ai_input = _Sample(GEN_AI_TOKENS)
        self.gen_ai_output = _Sample(GEN_AI_TOKENS)
        self.gen_ai_duration = _Sample(GEN_AI_DURATION)
        self.gen_ai_first_token = _Sample(GEN_AI_FIRST_TOKEN)
        self.gen_ai_per_token = _Sample(GEN_AI_PER_TOKEN)


TOKEN_TYPES = ("input", "output", "cache_read", "cache_write", "reasoning")

# format, provider, model, asked model, tier, outcome, status, error, stream
_Key = tuple[str, str, str, str, int, str, int, str, bool]


class Metrics:
    """The metrics of this process; docs/metrics.md lists them.

    `models` and `providers` are the configured names, virtual models included: any other value of such a
    label is counted as "other". `observe`, `classified` and `flush` belong to one thread; the gauges and
    counters that are attributes may be used from any.
    """

    def __init__(
        self, models: Iterable[str], providers: Iterable[str], registry: CollectorRegistry | None = None
    ) -> None:
        if _directory() and not values.ValueClass._multiprocess:
            raise RuntimeError("PROMETHEUS_MULTIPROC_DIR was set after prometheus_client was imported")
        self.registry = registry or CollectorRegistry()
        self._models = frozenset(models) | {""}
        self._providers = frozenset(providers) | {""}
        self._codes: set[str] = set()
        self._cells: dict[_Key, _Cell] = {}
        self._classified = _Sample(CLASSIFY_SECONDS)

        request = ("format", "provider", "model", "tier", "outcome", "status")
        self._requests = self._counter("aion_requests", "Requests, whatever became of them", *request)
        self._errors = self._counter("aion_errors", "Requests that ended in an error, by its code", "code")
        self._tokens = self._counter(
            "aion_tokens",
            "Tokens; the cached are part of input, reasoning of output",
            "provider",
            "model",
            "type",
        )
        self._cost = self._counter("aion_cost_usd", "Dollars spent on priced requests", "provider", "model")
        self._savings = self._counter(
            "aion_savings_usd", "Dollars saved against the dearest configured model"
        )
        self._unpriced = self._counter("aion_unpriced_requests", "Answered requests with no known price")
        self._duration = self._histogram(
            "aion_request_duration_seconds", "From request to last byte", SECONDS, "tier", "outcome"
        )
        self._first_byte = self._histogram(
            "aion_ttft_seconds", "From request to first byte of the answer's body", SECONDS, "tier", "stream"
        )
        self._classify = self._histogram("aion_classify_seconds", "Classifying a request", CLASSIFY_SECONDS)

        self._gen_ai_tokens = self._histogram(
            "gen_ai_client_token_usage",
            "Number of input and output tokens used",
            GEN_AI_TOKENS,
            *_GEN_AI,
            "gen_ai_token_type",
        )
        self._gen_ai_duration = self._histogram(
            "gen_ai_server_request_duration_seconds",
            "Generative AI server request duration",
            GEN_AI_DURATION,
            *_GEN_AI,
            "error_type",
        )
        self._gen_ai_first_token = self._histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first token of successful streams",
            GEN_AI_FIRST_TOKEN,
            *_GEN_AI,
        )
        self._gen_ai_per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per output token after the first one of successful streams",
            GEN_AI_PER_TOKEN,
            *_GEN_AI,
        )

        self._failed = self._counter(
            "aion_failed_attempts",
            "Attempts that failed and were followed by another one, by what went wrong",
            "provider",
            "model",
            "code",
        )
        self.streams = self._gauge("aion_extproc_streams", "Open ext_proc streams")
        self.ledger_waiting = self._gauge("aion_ledger_waiting", "Ledger rows not yet written")
        self.ledger_spooled = self._gauge("aion_ledger_spooled", "Ledger rows on disk, not yet in the database")
        self.ledger_rows = self._counter("aion_ledger_rows", "Ledger rows written")
        self.ledger_dropped = self._counter("aion_ledger_dropped", "Ledger rows given up")
        self.state_failures = self._counter(
            "aion_state_failures",
            "Calls to the shared state without an answer, and what became of what was asked",
            "call",
            "reason",
            "outcome",
        )
        self.worker_restarts = self._counter("aion_worker_restarts", "Workers that died and were started anew")
        self.worker_replacements = self._counter(
            "aion_worker_replacements", "Workers that were replaced while they ran", "reason"
        )
        self.webhook_deliveries = self._counter(
            "aion_webhook_deliveries", "Attempts to tell a webhook of an event, and events given up", "result"
        )
        self.config_reloads = self._counter("aion_config_reloads", "Reloads of the configuration", "result")
        self.config_reload_successful = self._gauge(
            "aion_config_last_reload_successful", "Whether the configuration file is what the gateway works with"
        )
        self.config_generation = self._gauge(
            "aion_config_generation", "Which configuration is at work: 1 at the start, 1 more with each reload"
        )

    def observe(self, row: LedgerRow) -> None:
        """Count one request. It shows at /metrics after the next `flush`."""
        provider = row.provider if row.provider in self._providers else OTHER
        model = row.model if row.model in self._models else OTHER
        asked = row.asked_model if row.asked_model in self._models else OTHER
        key = (row.format, provider, model, asked, row.tier, row.outcome, row.status, row.error, row.stream)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _Cell()
        cell.rows += 1
        seconds = row.latency_ms / 1000
        cell.duration.add(seconds)
        first = None
        if row.ttft_ms is not None:
            first = row.ttft_ms / 1000
            cell.first_byte.add(first)
        if not provider or row.outcome == "refused":
            return

        usage = row.usage
        tokens = cell.tokens
        tokens[0] += usage.input_tokens
        tokens[1] += usage.output_tokens
        if usage.cache_read_tokens or usage.cache_write_tokens or usage.reasoning_tokens:
            tokens[2] += usage.cache_read_tokens
            tokens[3] += usage.cache_write_tokens
            tokens[4] += usage.reasoning_tokens
        if row.cost_nano is None:
            if row.outcome != "failed":
                cell.unpriced += 1
        else:
            cell.cost_nano += row.cost_nano
            if row.baseline_nano is not None:
                cell.saved_nano += row.baseline_nano - row.cost_nano

        cell.gen_ai_duration.add(seconds)
        # The convention: no usage is reported where the counts are not the provider's own.
        if not row.estimated and (usage.input_tokens or usage.output_tokens):
            cell.gen_ai_input.add(usage.input_tokens)
            cell.gen_ai_output.add(usage.output_tokens)
        if first is not None and row.stream and row.outcome == "served":
            cell.gen_ai_first_token.add(first)
            if usage.output_tokens > 1:
                cell.gen_ai_per_token.add(max(0.0, seconds - first) / (usage.output_tokens - 1))

    def failed_attempt(self, row: AttemptRow) -> None:
        """Count an attempt after which another one was made."""
        provider = row.provider if row.provider in self._providers else OTHER
        model = row.model if row.model in self._models else OTHER
        self._failed.labels(provider, model, self._error_code(row.error)).inc()

    def classified(self, seconds: float) -> None:
        """Note how long a classification took."""
        self._classified.add(seconds)

    def flush(self) -> None:
        """Carry over what was observed since the last flush."""
        cells, self._cells = self._cells, {}
        classified, self._classified = self._classified, _Sample(CLASSIFY_SECONDS)
        if classified.counts:
            self._classify.add(classified.counts, classified.total)
        for key, cell in cells.items():
            self._flush_cell(key, cell)

    def _flush_cell(self, key: _Key, cell: _Cell) -> None:
        format_, provider, model, asked, tier, outcome, status, error, stream = key
        code = str(status) if 0 <= status < 600 else OTHER
        self._requests.labels(format_, provider, model, tier, outcome, code).inc(cell.rows)
        if error:
            self._errors.labels(self._error_code(error)).inc(cell.rows)
        cell.duration.move(self._duration, str(tier), outcome)
        cell.first_byte.move(self._first_byte, str(tier), "true" if stream else "false")
        if not provider:
            return
        for type_, count in zip(TOKEN_TYPES, cell.tokens, strict=True):
            if count:
                self._tokens.labels(provider, model, type_).inc(count)
        if cell.cost_nano:
            self._cost.labels(provider, model).inc(cell.cost_nano / NANO)
        if cell.saved_nano > 0:  # a counter cannot fall; the ledger has the exact sum
            self._savings.inc(cell.saved_nano / NANO)
        if cell.unpriced:
            self._unpriced.inc(cell.unpriced)
        gen_ai = ("chat", GEN_AI_PROVIDERS.get(provider, provider), asked, model)
        cell.gen_ai_input.move(self._gen_ai_tokens, *gen_ai, "input")
        cell.gen_ai_output.move(self._gen_ai_tokens, *gen_ai, "output")
        cell.gen_ai_duration.move(self._gen_ai_duration, *gen_ai, "" if outcome == "served" else code)
        cell.gen_ai_first_token.move(self._gen_ai_first_token, *gen_ai)
        cell.gen_ai_per_token.move(self._gen_ai_per_token, *gen_ai)

    def _error_code(self, code: str) -> str:
        if code not in self._codes:
            if len(self._codes) >= MAX_ERROR_CODES or not _CODE.fullmatch(code):
                return OTHER
            self._codes.add(code)
        return code

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str) -> Gauge:
        return Gauge(name, help_, registry=self.registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, help_: str, bounds: tuple[float, ...], *labels: str) -> BatchHistogram:
        return BatchHistogram(name, help_, labels, buckets=bounds, registry=self.registry)


def exposition(registry: CollectorRegistry | None = None) -> bytes:
    """All processes' metrics in Prometheus' text format; without a shared directory those of `registry`."""
    directory = _directory()
    if not directory:
        return generate_latest(registry) if registry else b""
    shared = CollectorRegistry()
    MultiProcessCollector(shared, path=directory)  # type: ignore[no-untyped-call]
    for _ in range(5):
        try:
            return generate_latest(shared)
        except struct.error:
            continue  # a worker has created its file and not yet written the header: microseconds
    return generate_latest(shared)


def name_process(name: str) -> None:
    """Keep this process's values under a name, before the first `Metrics`. Its successor of that name counts on from
    them, so that there are not more and more files to add up. No two may run at once; no "_" may be in it."""
    if _directory():
        values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]


def forget_process(name: int | str) -> None:
    """Drop the gauges of a process that is gone, by name or pid; its counters stay. For the supervisor, after each
    death."""
    directory = _directory()
    if directory:
        mark_process_dead(name, directory)  # type: ignore[no-untyped-call]


def _directory() -> str:
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
