"""The HTTP API: health, models, savings, metrics. Envoy sends it the requests that are not for a provider."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException

from aion_extproc.accounting.metrics import exposition
from aion_extproc.api.admin import PREFIX, AdminDeps, create_admin, guarded, is_admin
from aion_extproc.api.answers import (
    RANGE_MS,
    CostsAnswer,
    Range,
    RoutingAnswer,
    SavingsAnswer,
    StatsAnswer,
    costs_answer,
    routing_answer,
    savings_answer,
    stats_answer,
)
from aion_extproc.api.backends import BackendsAnswer, backend_metrics, backends_answer
from aion_extproc.api.callers import Callers, admit, is_restricted, usable
from aion_extproc.api.errors import error_answer, format_of, path_of
from aion_extproc.api.models import Entry, entries, model_list, model_object
from aion_extproc.api.scope import scope_of
from aion_extproc.api.state import ApiState
from aion_extproc.routing.health import Health
from aion_extproc.stores.keys_follow import KeyDatabase
from aion_extproc.stores.ledger import Ledger, LedgerAway
from aion_extproc.stores.report import By
from aion_extproc.stores.secrets import Vault

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Deps:
    """What the application works on, of which `state` may be replaced. `health` is what the workers know, by
    `clock`; `in_flight` counts open requests by provider; `exposition` gives the Prometheus text, `now_ms` the UTC
    time. `running` is entered while the application runs, in its event loop. `keys_changed` tells the workers."""

    state: ApiState
    ledger: Ledger
    callers: Callers
    keys: KeyDatabase
    vault: Vault
    health: Health
    in_flight: Callable[[], Awaitable[Mapping[str, int] | None]]
    keys_changed: Callable[[], None] = lambda: None
    running: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    clock: Callable[[], float] = time.monotonic
    exposition: Callable[[], bytes] = exposition
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000


RangeQuery = Annotated[Range, Query(description="How far back, from now")]
ByQuery = Annotated[By, Query(description="What each line is about")]


def create_app(deps: Deps) -> FastAPI:
    ledger, version = deps.ledger, deps.state.version
    app = FastAPI(
        title="aion",
        version=version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lambda _: deps.running(),
    )

    def since(range_: Range, until: int) -> int:
        length = RANGE_MS[range_]
        return 0 if length is None else until - length

    async def told() -> None:
        await deps.keys.refresh()
        deps.keys_changed()

    admin = AdminDeps(lambda: deps.state, deps.keys, deps.vault, ledger, told, deps.now_ms)
    app.mount(PREFIX, create_admin(admin, version))

    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if is_admin(path_of(request)):
            return await guarded(admin, request, proceed)
        if needs_key(path_of(request)):
            refused = admit(request, deps.state.auth, deps.callers, deps.now_ms())
            if refused is not None:
                return refused
        return await proceed(request)

    def listed(request: Request) -> dict[str, Entry]:
        return entries(usable(request, deps.state.models), all_of_them=not is_restricted(request))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    @app.api_route("/api/hello", methods=["GET", "HEAD"], include_in_schema=False)
    async def hello() -> dict[str, str]:
        return {"name": "aion", "version": version}

    @app.get("/health")
    @app.head("/health", include_in_schema=False)
    async def health() -> JSONResponse:
        if deps.state.draining:
            return JSONResponse({"status": "draining", "version": version}, 503)
        return JSONResponse({"status": "ok", "version": version})

    @app.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        return model_list(listed(request).values(), format_of(request))

    # A path, because ids may hold slashes ("meta-llama/llama-3.3-70b").
    @app.get("/v1/models/{model_id:path}")
    async def get_model(model_id: str, request: Request) -> Response:
        entry = listed(request).get(model_id)
        if entry is None:
            return error_answer(
                request,
                404,
                f"The model '{model_id}' does not exist. GET /v1/models lists those that do.",
                code="model_not_found",
                param="model",
            )
        return JSONResponse(model_object(entry, format_of(request)))

    @app.get("/v1/backends")
    async def backends(request: Request) -> BackendsAnswer:
        in_flight = await deps.in_flight()
        return backends_answer(usable(request, deps.state.models), deps.health, deps.clock(), in_flight)

    # Plain functions: FastAPI runs them in a thread, and a long query does not hold up /health.
    @app.get("/aion/v1/metrics/savings")
    def savings(request: Request, range: RangeQuery = "24h") -> SavingsAnswer:
        until = deps.now_ms() + 1
        return savings_answer(range, ledger.savings(since(range, until), until, scope_of(request)))

    @app.get("/aion/v1/metrics/routing")
    def routing(request: Request, range: RangeQuery = "24h") -> RoutingAnswer:
        until = deps.now_ms() + 1
        return routing_answer(range, ledger.routing(since(range, until), until, scope_of(request)))

    @app.get("/aion/v1/metrics/costs")
    def costs(request: Request, range: RangeQuery = "24h") -> CostsAnswer:
        until = deps.now_ms() + 1
        return costs_answer(range, ledger.costs(since(range, until), until, scope_of(request)))

    @app.get("/aion/v1/stats")
    def stats(request: Request, range: RangeQuery = "24h", by: ByQuery = "model") -> StatsAnswer:
        until = deps.now_ms() + 1
        return stats_answer(range, ledger.report(since(range, until), until, by, scope_of(request)))

    @app.get("/aion/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return app.openapi()

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        counted = await run_in_threadpool(deps.exposition)
        now = backend_metrics(deps.state.models, deps.health, deps.clock())
        return Response(counted + now, headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, bad_parameter)
    app.add_exception_handler(LedgerAway, ledger_away)
    app.add_exception_handler(Exception, internal_error)
    return app


def needs_key(path: str) -> bool:
    return path.startswith(("/v1/", "/aion/")) or path in ("/v1", "/aion")


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {
        404: f"There is nothing at {path_of(request)}.",
        405: f"{request.method} is not possible on {path_of(request)}.",
    }.get(error.status_code, str(error.detail))
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    headers = dict(error.headers) if error.headers else None
    return error_answer(request, error.status_code, message, code=code, headers=headers)


async def bad_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    message = f"Invalid value for '{name}': {first['msg'][0].lower()}{first['msg'][1:]}."
    return error_answer(request, 400, message, code="invalid_parameter", param=name)


async def ledger_away(request: Request, error: Exception) -> Response:
    log.error("ledger_away", path=path_of(request), reason=str(error))
    message = "The ledger cannot be read at the moment. Nothing is lost: requests are recorded, and it catches up."
    return error_answer(request, 503, message, code="ledger_unavailable", headers={"retry-after": "5"})


async def internal_error(request: Request, error: Exception) -> Response:
    log.error("request failed", path=path_of(request), error=type(error).__name__)
    return error_answer(request, 500, "The request could not be answered.", code="internal_error")
