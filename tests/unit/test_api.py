"""The API as a real process on a Unix socket, reading a real ledger and the metrics of real processes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aion_extproc.accounting.row import LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.stores.ledger import Ledger

KEY = "sk-aion-test-ключ"
PATHS = ("/aion/v1/metrics/savings", "/aion/v1/metrics/routing", "/aion/v1/metrics/costs")
ANTHROPIC = {"anthropic-version": "2023-06-01"}
HOUR_MS = 3_600_000

MODELS = [
    {"id": "gpt-4o-mini", "provider": "openai", "tier": 1, "formats": ["openai"], "priced": True},
    {"id": "qwen", "provider": "local", "tier": 1, "formats": ["openai"], "local": True, "context_window": 4096},
    {"id": "meta/llama-70b", "provider": "openrouter", "tier": 2, "formats": ["openai"], "context_window": 1000},
    {"id": "meta/llama-70b", "provider": "vllm", "tier": 2, "formats": ["openai"], "context_window": 9000},
]
DEMO = [{"id": "demo-small", "provider": "demo", "tier": 1, "formats": ["openai", "anthropic"], "demo": True}]


@dataclass(frozen=True)
class Api:
    http: httpx.Client
    socket: Path
    process: subprocess.Popen[bytes]


@contextmanager
def api(directory: Path, url: str = "", **state: Any) -> Iterator[Api]:
    """The server with this state and the ledger at `url`, or a new one at `directory`/aion.db, until the block ends."""
    (directory / "metrics").mkdir(exist_ok=True)
    path = None if url else str(directory / "aion.db")
    (directory / "state.json").write_text(json.dumps({"db_path": path, "version": "9.9.9", **state}))
    socket = directory / "api.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "aion_extproc.api.server", "--socket", socket, "--state", directory / "state.json"],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics")},
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(url.encode())
    process.stdin.close()
    transport = httpx.HTTPTransport(uds=str(socket))
    try:
        with httpx.Client(transport=transport, base_url="http://aion") as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert client.get("/health").status_code == 200
                    break
                except httpx.TransportError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.02)  # asked again, not relied upon
            yield Api(client, socket, process)
    finally:
        process.terminate()
        assert process.wait(5) == 0


@pytest.fixture(scope="module")
def open_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api(tmp_path_factory.mktemp("api"), models=MODELS) as running:
        yield running


@pytest.fixture(scope="module")
def locked_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    keys = {"another": "another", "test": KEY}
    auth = {
        "enabled": True,
        "keys": [
            {"digest": hashlib.sha256(key.encode()).hexdigest(), "rules": {"name": name}} for name, key in keys.items()
        ],
    }
    with api(tmp_path_factory.mktemp("locked"), models=MODELS, auth=auth) as running:
        yield running


def test_health_and_hello_need_no_key(locked_api: Api) -> None:
    assert locked_api.http.get("/health").json() == {"status": "ok", "version": "9.9.9"}
    assert locked_api.http.get("/").json()["name"] == "aion"
    head = locked_api.http.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert locked_api.http.get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["", "a@b", "[", "x/health?", "x:y"])
@pytest.mark.parametrize("path", ["/v1/models", PATHS[0], "/admin/keys"])
def test_no_host_that_a_client_names_opens_a_path(locked_api: Api, path: str, host: str) -> None:
    answer = locked_api.http.get(path, headers={"host": host})
    assert answer.status_code == (404 if path.startswith("/admin") else 401)
    assert str(locked_api.socket) not in answer.text


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/qwen", *PATHS, "/aion/openapi.json", "/aion/nothing"])
def test_the_rest_needs_a_key(locked_api: Api, path: str) -> None:
    http = locked_api.http
    assert http.get(path).status_code == 401
    for wrong in ("", "Bearer", "Bearer wrong", "Basic sk-aion-test", "Bearer sk-aion-test-"):
        assert http.get(path, headers=[("authorization", wrong)]).status_code == 401
    expected = 404 if path == "/aion/nothing" else 200
    assert http.get(path, headers=[(b"authorization", f"Bearer {KEY}".encode())]).status_code == expected
    assert http.get(path, headers=[(b"authorization", f"bearer {KEY}".encode())]).status_code == expected
    assert http.get(path, headers=[(b"x-api-key", KEY.encode())]).status_code == expected


def test_a_missing_key_is_told_in_the_shape_of_the_api(locked_api: Api) -> None:
    error = locked_api.http.get("/v1/models").json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_api_key", None)
    body = locked_api.http.get("/v1/models", headers={**ANTHROPIC, "x-request-id": "abc"}).json()
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", "authentication_error", "abc")
    assert "error" in locked_api.http.get(PATHS[0], headers={"x-api-key": "wrong"}).json()


def test_models_in_openais_shape(open_api: Api) -> None:
    body = open_api.http.get("/v1/models").json()
    assert body["object"] == "list"
    ids = [model["id"] for model in body["data"]]
    assert ids == ["aion-auto", "aion-escalate", "aion-local", "gpt-4o-mini", "qwen", "meta/llama-70b"]
    for model in body["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
    assert body["data"][3]["owned_by"] == "openai"
    offers = body["data"][-1]["aion"]["providers"]
    assert [offer["name"] for offer in offers] == ["openrouter", "vllm"]


def test_models_in_anthropics_shape(open_api: Api) -> None:
    for headers in (ANTHROPIC, {"x-api-key": "any"}):
        body = open_api.http.get("/v1/models", headers=headers).json()
        assert set(body) == {"data", "has_more", "first_id", "last_id"}
        assert (body["has_more"], body["first_id"], body["last_id"]) == (False, "aion-auto", "meta/llama-70b")
        assert all(set(model) >= {"type", "id", "display_name", "created_at"} for model in body["data"])
        assert body["data"][-1]["max_input_tokens"] == 9000


def test_one_model_and_none(open_api: Api) -> None:
    assert open_api.http.get("/v1/models/meta/llama-70b").json()["id"] == "meta/llama-70b"
    assert open_api.http.get("/v1/models/aion-auto", headers=ANTHROPIC).json()["type"] == "model"
    answer = open_api.http.get("/v1/models/gpt-9")
    assert answer.status_code == 404
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("model_not_found", "model")
    answer = open_api.http.get("/v1/models/gpt-9", headers=ANTHROPIC)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


def test_the_official_sdks_list_the_models(open_api: Api) -> None:
    def client() -> httpx2.Client:
        return httpx2.Client(transport=httpx2.HTTPTransport(uds=str(open_api.socket)))

    with client() as http:
        chat = openai.OpenAI(base_url="http://aion/v1", api_key="any", http_client=http)
        assert next(iter(chat.models.list())).id == "aion-auto"
        assert chat.models.retrieve("qwen").owned_by == "local"
        with pytest.raises(openai.NotFoundError, match="gpt-9"):
            chat.models.retrieve("gpt-9")
    with client() as http:
        messages = anthropic.Anthropic(base_url="http://aion", api_key="any", http_client=http)
        assert next(iter(messages.models.list())).id == "aion-auto"
        assert messages.models.retrieve("qwen").max_input_tokens == 4096
        with pytest.raises(anthropic.NotFoundError, match="gpt-9"):
            messages.models.retrieve("gpt-9")


def test_demo_models_say_so_and_without_a_local_model_there_is_no_aion_local(tmp_path: Path) -> None:
    with api(tmp_path, models=DEMO) as running:
        models = {model["id"]: model for model in running.http.get("/v1/models").json()["data"]}
        assert set(models) == {"aion-auto", "aion-escalate", "demo-small"}
        assert models["demo-small"]["owned_by"] == "demo"
        assert models["demo-small"]["aion"]["demo"] is True
        listed = running.http.get("/v1/models", headers=ANTHROPIC).json()["data"]
        assert all("demo" in model["display_name"] for model in listed)


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_range_is_refused_naming_the_known(open_api: Api, path: str) -> None:
    for wrong in ("2h", "", "1H", "24h "):
        answer = open_api.http.get(path, params={"range": wrong})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["param"], error["type"]) == ("range", "invalid_request_error")
        assert all(known in error["message"] for known in ("1h", "24h", "7d", "30d", "all"))


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_ledger_answers_zero(open_api: Api, path: str) -> None:
    for range_ in ("1h", "24h", "7d", "30d", "all"):
        body = open_api.http.get(path, params={"range": range_}).json()
        assert (body["range"], body["total_requests"]) == (range_, 0)


def test_unknown_paths_and_methods(open_api: Api) -> None:
    for method, path, status in (("GET", "/aion/nothing", 404), ("POST", PATHS[0], 405), ("GET", "/aion", 404)):
        answer = open_api.http.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    answer = open_api.http.post("/v1/models", headers=ANTHROPIC)
    assert (answer.status_code, answer.json()["type"], answer.headers["allow"]) == (405, "error", "GET")


def test_openapi_names_the_ranges(open_api: Api) -> None:
    schema = open_api.http.get("/aion/openapi.json").json()
    (parameter,) = schema["paths"][PATHS[0]]["get"]["parameters"]
    assert parameter["schema"]["enum"] == ["1h", "24h", "7d", "30d", "all"]
    assert "savings_nano" in schema["components"]["schemas"]["SavingsAnswer"]["properties"]


def test_there_is_no_cors(open_api: Api) -> None:
    headers = {"origin": "http://evil", "access-control-request-method": "GET"}
    answer = open_api.http.options("/v1/models", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


def rows(now: int) -> list[LedgerRow]:
    small = LedgerRow(
        request_id="now",
        at_ms=now,
        outcome="served",
        status=200,
        provider="openai",
        model="gpt-4o-mini",
        tier=1,
        task="chat",
        usage=Usage(1000, 100, cache_read_tokens=400),
        cost_nano=210_001,
        baseline_nano=21_000_000,
        baseline_model="o1",
    )
    return [
        small,
        replace(small, request_id="2h", at_ms=now - 2 * HOUR_MS, estimated=True),
        replace(small, request_id="3d", at_ms=now - 72 * HOUR_MS, provider="anthropic", model="opus", tier=3),
        replace(small, request_id="10d", at_ms=now - 240 * HOUR_MS, cost_nano=None),
        LedgerRow(request_id="old", at_ms=1, outcome="refused", status=400),
    ]


def test_reports_come_from_the_ledger_in_their_range(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "aion.db")
    ledger.add(rows(time.time_ns() // 1_000_000))
    ledger.close()
    with api(tmp_path, models=MODELS) as running:

        def report(name: str, range_: str) -> Any:
            return running.http.get(f"/aion/v1/metrics/{name}", params={"range": range_}).json()

        totals = {range_: report("savings", range_)["total_requests"] for range_ in ("1h", "24h", "7d", "30d", "all")}
        assert totals == {"1h": 1, "24h": 2, "7d": 3, "30d": 4, "all": 5}
        assert running.http.get(PATHS[0]).json()["range"] == "24h"

        assert report("savings", "24h") == {
            "range": "24h",
            "total_requests": 2,
            "total_cost_usd": 0.000420002,
            "total_cost_nano": 420_002,
            "compared_requests": 2,
            "compared_cost_usd": 0.000420002,
            "compared_cost_nano": 420_002,
            "baseline_cost_usd": 0.042,
            "baseline_cost_nano": 42_000_000,
            "baseline_models": ["o1"],
            "savings_usd": 0.041579998,
            "savings_nano": 41_579_998,
            "savings_percent": 99.0,
            "unpriced_requests": 0,
            "estimated_requests": 1,
        }
        assert report("savings", "all")["unpriced_requests"] == 1

        routing = report("routing", "all")
        assert routing["routed_requests"] == 4
        assert routing["by_tier"] == [
            {"tier": 1, "requests": 3, "percent": 75.0},
            {"tier": 3, "requests": 1, "percent": 25.0},
        ]
        assert routing["by_model"][0] == {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "tier": 1,
            "requests": 3,
            "percent": 75.0,
        }
        assert routing["by_task"] == [{"task": "chat", "requests": 4, "percent": 100.0}]
        assert {each["outcome"] for each in routing["by_outcome"]} == {"served", "refused"}

        costs = report("costs", "all")
        assert (costs["total_requests"], costs["total_cost_nano"]) == (4, 630_003)
        assert [each["provider"] for each in costs["by_provider"]] == ["openai", "anthropic"]
        assert costs["by_provider"][0]["cost_usd"] == 0.000420002
        assert costs["by_provider"][0]["unpriced_requests"] == 1
        assert costs["by_model"][0]["cache_read_tokens"] == 1200


COUNTING = """
import sys
from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import LedgerRow
metrics = Metrics(["m"], ["p"])
for n in range(int(sys.argv[1])):
    metrics.observe(LedgerRow(request_id=str(n), at_ms=1, outcome="served", status=200, provider="p", model="m"))
metrics.flush()
print("counted", flush=True)
sys.stdin.read()
"""


def test_metrics_are_those_of_all_processes(tmp_path: Path) -> None:
    with api(tmp_path, models=MODELS) as running:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", COUNTING, str(rows)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for rows in (7, 5)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == b"counted\n"
            answer = running.http.get("/metrics")
        finally:
            for worker in workers:
                worker.communicate(timeout=10)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        assert sum(sample.value for sample in families["aion_requests"].samples) == 12
        assert families["gen_ai_server_request_duration_seconds"].type == "histogram"


def test_sigterm_ends_it_although_a_client_holds_on(tmp_path: Path) -> None:
    with api(tmp_path, models=MODELS) as running:
        assert running.http.get("/health").status_code == 200  # the connection stays open
        running.process.terminate()
        assert running.process.wait(3) == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not valid"),
        ('{"version": "1"}', "db_path: Field required"),
        ('{"version": "1", "db_path": "x", "keys": ["sk-secret"]}', "keys: Extra inputs"),
        (None, "No such file"),
    ],
)
def test_a_bad_state_is_told_in_a_line_without_its_content(tmp_path: Path, content: str | None, says: str) -> None:
    state = tmp_path / "state.json"
    if content is not None:
        state.write_text(content)
    options = ["--socket", str(tmp_path / "s"), "--state", str(state)]
    command = [sys.executable, "-m", "aion_extproc.api.server", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert says in ended.stderr
    assert str(state) in ended.stderr
    assert "sk-secret" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
