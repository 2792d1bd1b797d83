"""The admin API: keys of callers, tenants, tenants' own keys at providers. It is not there without
`auth.admin_secret`, and nothing of it is answered to those who do not present that.

Keys of the configuration cannot be changed here (409). A tenant of the configuration may get limits and provider keys
here, which go over those that it has there.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from aion_extproc.api.admin_answers import (
    ErrorAnswer,
    KeyCreated,
    KeysAnswer,
    NewProviderKey,
    ProviderKeyInfo,
    ProviderKeysAnswer,
    Rotation,
    TenantInfo,
    TenantsAnswer,
    TenantStats,
    configured_key_info,
    created,
    stored_key_info,
    tenant_infos,
)
from aion_extproc.api.answers import RANGE_MS, Range, costs_answer, routing_answer, savings_answer
from aion_extproc.api.errors import error_answer, path_of
from aion_extproc.api.state import ApiState
from aion_extproc.config.access import KeyRules
from aion_extproc.stores.database import LedgerError, outage
from aion_extproc.stores.keys import KeyStore
from aion_extproc.stores.keys_follow import KeyDatabase
from aion_extproc.stores.keys_tables import AccessError, Conflict, Invalid, Missing
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.scope import Scope
from aion_extproc.stores.secrets import Vault, VaultError
from aion_extproc.stores.tenants import TenantRules, TenantStore

log = structlog.get_logger(__name__)

PREFIX = "/admin"
_MOST_BYTES = 1 << 20  # of a body
_CONFIGURED = "is in the configuration; change it there"
_STATUS: dict[type[AccessError], tuple[int, str]] = {
    Missing: (404, "not_found"),
    Conflict: (409, "conflict"),
    Invalid: (422, "invalid_value"),
}
NameInPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._\-]{0,63}$")]
RangeQuery = Annotated[Range, Query(description="How far back, from now")]


@dataclass(slots=True)
class AdminDeps:
    """What it works on. `told`: to be called when something has changed, before the answer is sent."""

    state: Callable[[], ApiState]
    database: KeyDatabase
    vault: Vault
    ledger: Ledger
    told: Callable[[], Awaitable[None]]
    now_ms: Callable[[], int]


def is_admin(path: str) -> bool:
    return path == PREFIX or path.startswith(f"{PREFIX}/")


async def guarded(
    deps: AdminDeps, request: Request, proceed: Callable[[Request], Awaitable[Response]]
) -> Response:
    """The answer of the admin API to whoever may ask it, and to nobody else."""
    wanted = deps.state().auth.admin_digest
    if wanted is None:
        return error_answer(request, 404, f"There is nothing at {path_of(request)}.", code="not_found")
    if _presents(request, wanted):
        answer = _too_large(request) or await proceed(request)
    else:
        message = "The admin secret is needed: `X-Admin-Secret: <secret>` or `Authorization: Bearer <secret>`."
        answer = error_answer(request, 401, message, code="invalid_admin_secret")
    if request.method not in ("GET", "HEAD") and answer.status_code < 300:
        await deps.told()
    answer.headers["cache-control"] = "no-store"
    return answer


def _too_large(request: Request) -> Response | None:
    """The refusal of a body that is, or that nobody says is not: all of it would be in memory."""
    length = request.headers.get("content-length")
    if length is None and "transfer-encoding" in request.headers:
        return error_answer(request, 411, "The body needs a Content-Length.", code="length_required")
    if length is not None and int(length) > _MOST_BYTES:
        return error_answer(request, 413, f"The body is larger than {_MOST_BYTES} bytes.", code="body_too_large")
    return None


def _presents(request: Request, wanted: str) -> bool:
    """Both headers are compared, each in constant time."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found = False
    for secret in (request.headers.get("x-admin-secret", ""), token.strip() if scheme.lower() == "bearer" else ""):
        found |= hmac.compare_digest(hashlib.sha256(secret.encode("latin-1", "replace")).hexdigest(), wanted)
    return found


def create_admin(deps: AdminDeps, version: str) -> FastAPI:
    """To be mounted at PREFIX behind `guarded`."""
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": text}
        for status, text in {
            400: "The body cannot be read",
            401: "The admin secret is missing or wrong",
            404: "There is no such thing",
            409: "It is there already, or in the configuration",
            411: "The body has no Content-Length",
            413: "The body is larger than a mebibyte",
            422: "A value is not what it must be",
            503: "The database does not answer, or there is no master key",
        }.items()
    }
    # Only so that the document names them: `guarded` looks at the headers before anything is read.
    named = [
        Depends(APIKeyHeader(name="X-Admin-Secret", auto_error=False)),
        Depends(HTTPBearer(auto_error=False)),
    ]
    app = FastAPI(
        title="aion admin",
        version=version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=documented,
        dependencies=named,
    )

    def keys() -> KeyStore:
        return KeyStore(deps.database.engine, deps.now_ms)

    def tenants() -> TenantStore:
        return TenantStore(deps.database.engine, deps.vault, deps.now_ms)

    def not_configured(name: str) -> None:
        if any(key.rules.name == name for key in deps.state().auth.keys):
            raise Conflict(f"the key {name} {_CONFIGURED}")

    def known(tenant: str) -> TenantInfo:
        found = tenant_infos(deps.state(), tenants().list()).get(tenant)
        if found is None:
            raise Missing(f"there is no tenant {tenant}")
        return found

    def made(name: str, secret: str) -> KeyCreated:
        return created(stored_key_info(keys().find(name), deps.now_ms()), secret)

    @app.post("/keys", status_code=201)
    def create_key(rules: KeyRules) -> KeyCreated:
        not_configured(rules.name)
        return made(rules.name, keys().create(rules))

    @app.get("/keys")
    def list_keys() -> KeysAnswer:
        now, configured = deps.now_ms(), deps.state().auth.keys
        listed = [configured_key_info(key.rules, now) for key in configured]
        return KeysAnswer(keys=listed + [stored_key_info(key, now) for key in keys().list()])

    @app.delete("/keys/{name}", status_code=204)
    def revoke_key(name: NameInPath) -> None:
        not_configured(name)
        keys().revoke(name)

    @app.post("/keys/{name}/rotate")
    def rotate_key(name: NameInPath, rotation: Rotation | None = None) -> KeyCreated:
        not_configured(name)
        return made(name, keys().rotate(name, rotation.overlap_seconds if rotation else 0))

    @app.get("/tenants")
    def list_tenants() -> TenantsAnswer:
        return TenantsAnswer(tenants=list(tenant_infos(deps.state(), tenants().list()).values()))

    @app.get("/tenants/{tenant}")
    def get_tenant(tenant: NameInPath) -> TenantInfo:
        return known(tenant)

    @app.put("/tenants/{tenant}")
    def put_tenant(tenant: NameInPath, rules: TenantRules) -> TenantInfo:
        tenants().put(tenant, rules)
        return known(tenant)

    @app.delete("/tenants/{tenant}", status_code=204)
    def delete_tenant(tenant: NameInPath) -> None:
        state = deps.state()
        if tenant in state.tenants or any(key.rules.tenant == tenant for key in state.auth.keys):
            raise Conflict(f"the tenant {tenant} {_CONFIGURED}")
        tenants().delete(tenant)

    @app.post("/tenants/{tenant}/keys", status_code=201)
    def put_provider_key(tenant: NameInPath, given: NewProviderKey) -> ProviderKeyInfo:
        providers = deps.state().providers
        if given.provider not in providers:
            known_here = ", ".join(providers)
            raise Invalid(f"there is no provider {given.provider} in the configuration; known are: {known_here}")
        tenants().put_provider_key(tenant, given.provider, given.api_key.get_secret_value())
        return next(key for key in known(tenant).provider_keys if key.provider == given.provider)

    @app.get("/tenants/{tenant}/keys")
    def list_provider_keys(tenant: NameInPath) -> ProviderKeysAnswer:
        return ProviderKeysAnswer(provider_keys=known(tenant).provider_keys)

    @app.delete("/tenants/{tenant}/keys/{provider}", status_code=204)
    def delete_provider_key(tenant: NameInPath, provider: NameInPath) -> None:
        held = {key.provider: key.source for key in known(tenant).provider_keys}
        if held.get(provider) == "config":
            raise Conflict(f"the key of {tenant} at {provider} {_CONFIGURED}")
        tenants().delete_provider_key(tenant, provider)

    @app.get("/tenants/{tenant}/stats")
    def stats(tenant: NameInPath, range: RangeQuery = "24h") -> TenantStats:
        until = deps.now_ms() + 1
        length = RANGE_MS[range]
        span = (0 if length is None else until - length, until)
        scope = Scope(tenant=tenant)
        routing = routing_answer(range, deps.ledger.routing(*span, scope))
        if not routing.total_requests:
            known(tenant)
        return TenantStats(
            tenant=tenant,
            range=range,
            savings=savings_answer(range, deps.ledger.savings(*span, scope)),
            costs=costs_answer(range, deps.ledger.costs(*span, scope)),
            by_outcome=routing.by_outcome,
        )

    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(AccessError, _refused)
    app.add_exception_handler(VaultError, _no_vault)
    app.add_exception_handler(LedgerError, _away)
    app.add_exception_handler(SQLAlchemyError, _away)
    app.add_exception_handler(Exception, _unexpected)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, AccessError)
    status, code = _STATUS[type(error)]
    text = str(error)
    return error_answer(request, status, f"{text[0].upper()}{text[1:]}.", code=code)


async def _invalid(request: Request, error: Exception) -> Response:
    """Where it is and what is wrong, never what was given: it may be a secret."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["loc"] == ("body",) and first["type"] == "model_attributes_type":
        message = "The body must be an object in JSON, with `Content-Type: application/json`."
        return error_answer(request, 422, message, code="invalid_parameter")
    at = [*first["loc"][1:], *first.get("ctx", {}).get("at", ())]
    # Between them are pydantic's names for the members of a union, and a client's own are any text.
    param = ".".join(str(part)[:64] for part in at if isinstance(part, int) or part.isidentifier())
    message = f"Invalid value{f' for {param!r}' if param else ''}: {first['msg'][:1].lower()}{first['msg'][1:]}."
    return error_answer(request, 422, message, code="invalid_parameter", param=param or None)


async def _no_vault(request: Request, error: Exception) -> Response:
    return error_answer(request, 503, f"{error}.", code="no_master_key")


async def _away(request: Request, error: Exception) -> Response:
    log.error("admin_request_failed", path=path_of(request), error=type(error).__name__)
    return error_answer(request, 503, "The database does not answer.", code="database_unavailable")


async def _unexpected(request: Request, error: Exception) -> Response:
    if outage(error) is not None:  # a driver's own error
        return await _away(request, error)
    log.error("admin_request_failed", path=path_of(request), error=type(error).__name__)
    headers = {"cache-control": "no-store"}
    return error_answer(request, 500, "The request could not be answered.", code="internal_error", headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {
        404: f"There is nothing at {path_of(request)}.",
        405: f"{request.method} is not possible on {path_of(request)}.",
    }.get(error.status_code, str(error.detail))
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    headers = dict(error.headers) if error.headers else None
    return error_answer(request, error.status_code, message, code=code, headers=headers)
