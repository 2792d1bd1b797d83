"""How the providers and their models are doing, as the workers saw it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from pydantic import BaseModel

from aion_extproc.api.state import ModelState
from aion_extproc.routing.health import Health, Standing, Status

_OUT = ("down", "cooling", "half-open")


class ModelBackend(BaseModel):
    """One model at one provider. `failures` are without the `rate_limited`, which are 429s; all three count attempts
    since the gateway began. Rate and time are moving averages, null before the first request or stream."""

    model: str
    tier: int
    status: Status
    why: str
    retry_in_seconds: float | None  # null: a request may go there now
    success_rate: float | None
    first_byte_ms: float | None
    requests: int
    failures: int
    rate_limited: int


class ProviderBackend(BaseModel):
    """`in_flight`: requests that are open at the provider; null when Envoy does not say."""

    provider: str
    status: Status
    why: str
    retry_in_seconds: float | None
    in_flight: int | None
    requests: int
    failures: int
    rate_limited: int
    models: list[ModelBackend]


class BackendsAnswer(BaseModel):
    backends: list[ProviderBackend]


def backends_answer(
    models: Iterable[ModelState], health: Health, now: float, in_flight: Mapping[str, int] | None
) -> BackendsAnswer:
    """In the order of the configuration. `now` is the clock of `health`; `in_flight` is by provider, 0 if not in it."""
    by_provider: dict[str, list[ModelBackend]] = {}
    for model in models:
        standing = health.standing(model.provider, model.id, now)
        by_provider.setdefault(model.provider, []).append(_model(model, standing, now))
    backends = []
    for provider, its_models in by_provider.items():
        standing = _together(health.provider_standing(provider, now), its_models)
        backends.append(
            ProviderBackend(
                provider=provider,
                status=standing.status,
                why=standing.why,
                retry_in_seconds=_seconds_to(standing.until, now),
                in_flight=None if in_flight is None else in_flight.get(provider, 0),
                requests=sum(model.requests for model in its_models),
                failures=sum(model.failures for model in its_models),
                rate_limited=sum(model.rate_limited for model in its_models),
                models=its_models,
            )
        )
    return BackendsAnswer(backends=backends)


def _model(model: ModelState, standing: Standing, now: float) -> ModelBackend:
    rate, first_byte = standing.success_rate, standing.first_byte
    return ModelBackend(
        model=model.id,
        tier=model.tier,
        status=standing.status,
        why=standing.why,
        retry_in_seconds=_seconds_to(standing.until, now),
        success_rate=None if rate is None else round(rate, 4),
        first_byte_ms=None if first_byte is None else round(first_byte * 1000, 1),
        requests=standing.requests,
        failures=standing.failures,
        rate_limited=standing.rate_limited,
    )


def _seconds_to(until: float | None, now: float) -> float | None:
    return None if until is None else round(until - now, 1)


def _together(own: Standing, models: list[ModelBackend]) -> Standing:
    """The provider's own standing, or what its models' come to."""
    if own.status != "healthy":
        return own
    out = [model for model in models if model.status in _OUT]
    degraded = [model for model in models if model.status == "degraded"]
    if not out and not degraded:
        return own
    status: Literal["down", "degraded"] = "down" if len(out) == len(models) else "degraded"
    parts = [f"{len(some)} {what}" for some, what in ((out, "out"), (degraded, "degraded")) if some]
    return Standing(status, f"of {len(models)} models {', '.join(parts)}")


def backend_metrics(models: Iterable[ModelState], health: Health, now: float) -> bytes:
    """The same for Prometheus, as it is now. Written at each scrape by the one process that is asked, not summed up
    over processes as the counters are: each worker has the same picture, and their sum would be none."""
    up, degraded, rate, first_byte = families = [
        GaugeMetricFamily(name, help_, labels=("provider", "model"))
        for name, help_ in (
            ("aion_backend_up", "Whether requests go there: 0 when down, half-open or cooling"),
            ("aion_backend_degraded", "Whether others are preferred"),
            ("aion_backend_success_ratio", "Attempts that went well: moving average"),
            ("aion_backend_first_byte_seconds", "Time to first byte of streams: moving average"),
        )
    ]
    for model in models:
        standing = health.standing(model.provider, model.id, now)
        values = (model.provider, model.id)
        up.add_metric(values, float(standing.status not in _OUT))
        degraded.add_metric(values, float(standing.status == "degraded"))
        if standing.success_rate is not None:
            rate.add_metric(values, standing.success_rate)
        if standing.first_byte is not None:
            first_byte.add_metric(values, standing.first_byte)
    registry = CollectorRegistry()
    registry.register(_Given(families))
    return generate_latest(registry)


class _Given:
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families
