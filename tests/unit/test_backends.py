"""GET /v1/backends and its gauges: the API as a real process, hearing from a worker on a real bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aion_extproc.api.backends import backends_answer
from aion_extproc.api.state import ModelState
from aion_extproc.extproc.bus import Bus
from aion_extproc.extproc.shared_health import SharedHealth
from aion_extproc.gateway.envoy_stats import checks, in_flight
from aion_extproc.providers import KINDS, configure
from aion_extproc.routing.health import Health, Observation
from aion_extproc.wire.format import Format
from tests.unit.test_api import KEY, Api, api

pytestmark = pytest.mark.anyio
MODELS = [
    {"id": "small", "provider": "cheap.ai", "tier": 1, "formats": ["openai"]},
    {"id": "large", "provider": "cheap.ai", "tier": 3, "formats": ["openai"]},
    {"id": "small", "provider": "other", "tier": 1, "formats": ["openai"]},
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def worker(directory: Path) -> AsyncIterator[tuple[SharedHealth, Health]]:
    """One that has just been started beside the API."""
    bus, health = Bus(directory / "worker-0.bus"), Health()
    shared = SharedHealth(health, bus)
    bus.open()
    yield shared, health
    bus.close()


async def ask(running: Api, path: str, key: str = "") -> httpx.Response:
    """While the worker's loop turns."""
    headers = {b"authorization": b"Bearer " + key.encode()} if key else {}
    return await asyncio.to_thread(lambda: running.http.get(path, headers=headers))


async def backends(running: Api) -> dict[str, Any]:
    answer = await ask(running, "/v1/backends")
    assert answer.status_code == 200
    return {one["provider"]: one for one in answer.json()["backends"]}


async def test_before_any_request(tmp_path: Path) -> None:
    with api(tmp_path, models=MODELS) as running:
        found = await backends(running)
    assert list(found) == ["cheap.ai", "other"]
    assert [model["model"] for model in found["cheap.ai"]["models"]] == ["small", "large"]
    assert found["other"] == {
        "provider": "other",
        "status": "healthy",
        "why": "",
        "retry_in_seconds": None,
        "in_flight": None,  # there is no Envoy here
        "requests": 0,
        "failures": 0,
        "rate_limited": 0,
        "models": [
            {
                "model": "small",
                "tier": 1,
                "status": "healthy",
                "why": "",
                "retry_in_seconds": None,
                "success_rate": None,
                "first_byte_ms": None,
                "requests": 0,
                "failures": 0,
                "rate_limited": 0,
            }
        ],
    }


async def test_what_a_worker_sees_is_there_within_a_second(tmp_path: Path) -> None:
    with api(tmp_path, models=MODELS) as running:
        async with worker(tmp_path) as (seen, _):
            start = time.monotonic()
            for _ in range(3):
                seen.observed(Observation("cheap.ai", "small", True, first_byte=0.25))
                seen.observed(Observation("cheap.ai", "large", False, "provider_500"))
            seen.observed(Observation("other", "small", False, "provider_429", retry_after=60))
            while (found := await backends(running))["cheap.ai"]["requests"] < 6:
                assert time.monotonic() - start < 1
                await asyncio.sleep(0.01)
        cheap, other = found["cheap.ai"], found["other"]
        assert (cheap["status"], cheap["why"]) == ("degraded", "of 2 models 1 out")
        assert (cheap["requests"], cheap["failures"]) == (6, 3)
        small, large = cheap["models"]
        assert (small["status"], small["success_rate"], small["first_byte_ms"]) == ("healthy", 1.0, 250.0)
        assert (large["status"], large["why"]) == ("down", "3 failures in a row, the last: provider_500")
        assert 25 < large["retry_in_seconds"] <= 30
        assert (other["status"], other["models"][0]["status"]) == ("down", "cooling")
        assert 55 < other["models"][0]["retry_in_seconds"] <= 60

        text = (await ask(running, "/metrics")).text
        gauges = {
            (sample.name, sample.labels["provider"], sample.labels["model"]): sample.value
            for family in text_string_to_metric_families(text)
            if family.name.startswith("aion_backend_")
            for sample in family.samples
        }
        assert gauges == {
            ("aion_backend_up", "cheap.ai", "small"): 1,
            ("aion_backend_up", "cheap.ai", "large"): 0,
            ("aion_backend_up", "other", "small"): 0,
            ("aion_backend_degraded", "cheap.ai", "small"): 0,
            ("aion_backend_degraded", "cheap.ai", "large"): 0,
            ("aion_backend_degraded", "other", "small"): 0,
            ("aion_backend_success_ratio", "cheap.ai", "small"): 1,
            ("aion_backend_success_ratio", "cheap.ai", "large"): 0,
            ("aion_backend_first_byte_seconds", "cheap.ai", "small"): 0.25,
        }

        # A gateway of one worker has its memory here: the next one begins with it.
        async with worker(tmp_path) as (_, successor), asyncio.timeout(1):
            while successor.healthy("cheap.ai", "large", time.monotonic()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_it_needs_a_key_where_models_do(tmp_path: Path) -> None:
    auth = {"enabled": True, "keys": [{"digest": sha256(KEY.encode()).hexdigest(), "rules": {"name": "test"}}]}
    with api(tmp_path, models=MODELS, auth=auth) as running:
        assert (await ask(running, "/v1/backends")).json()["error"]["code"] == "invalid_api_key"
        assert (await ask(running, "/v1/backends", KEY)).status_code == 200


def test_a_provider_s_own_trouble_comes_before_its_models() -> None:
    health = Health()
    models = [ModelState(id=name, provider="p", tier=1, formats=(Format.OPENAI,)) for name in ("a", "b")]
    for _ in range(3):
        health.report(Observation("p", "a", False, "provider_401"), 0.0)
    (found,) = backends_answer(models, health, 10.0, {"p": 4, "q": 1}).backends
    assert (found.status, found.retry_in_seconds, found.in_flight) == ("down", 20.0, 4)
    assert found.why == "3 failures of the provider in a row, the last: provider_401"
    assert [model.status for model in found.models] == ["down", "down"]
    (found,) = backends_answer(models, health, 31.0, None).backends
    assert (found.status, found.retry_in_seconds, found.in_flight) == ("half-open", None, None)


async def test_where_there_is_no_envoy_nothing_is_counted(tmp_path: Path) -> None:
    assert await in_flight(tmp_path / "nobody.sock") is None
    assert await checks(tmp_path / "nobody.sock") == {}


@pytest.mark.parametrize(
    ("kind", "base_url", "path"),
    [
        ("llama.cpp", None, "/health"),
        ("llama.cpp", "http://box:8081/v1", "/health"),
        ("vllm", "http://gpu/team/v1/", "/team/health"),
        ("vllm", "http://gpu/somewhere/else", "/somewhere/else/health"),
        ("ollama", None, "/"),
        ("openai", "http://127.0.0.1:9/v1", ""),  # who knows what that is
    ],
)
def test_what_envoy_asks_a_local_server(kind: str, base_url: str | None, path: str) -> None:
    assert configure("p", KINDS[kind], base_url).health_path == path
