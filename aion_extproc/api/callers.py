"""Whose request it is: the keys of the configuration and those of the database, which are asked for again and again."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import Request, Response
from pydantic import TypeAdapter, ValidationError

from aion_extproc.api.errors import error_answer
from aion_extproc.api.state import AuthState, ModelState
from aion_extproc.catalog.allowed import allowed
from aion_extproc.config.access import KeyRules
from aion_extproc.config.values import Name
from aion_extproc.stores.keys import StoredKey, is_over
from aion_extproc.stores.keys_changes import Changes
from aion_extproc.stores.scope import EVERYTHING, Scope
from aion_extproc.stores.secrets import digest

_NAME: TypeAdapter[str] = TypeAdapter(Name)


class Callers:
    """Keys by their digests, so that the time of a look-up tells nothing of a key."""

    def __init__(self, auth: AuthState) -> None:
        self.version = 0  # of the database; 0: it has not been read yet
        self._configured: dict[bytes, KeyRules] = {}
        self._stored: dict[bytes, StoredKey] = {}
        self.configure(auth)

    def configure(self, auth: AuthState) -> None:
        """Take the configuration's keys in place of those before."""
        self._configured = {bytes.fromhex(key.digest): key.rules for key in auth.keys}

    def apply(self, news: Changes) -> None:
        """Each version once, in their order."""
        stored = {} if news.complete else dict(self._stored)
        for gone in news.gone:
            stored.pop(gone, None)
        stored |= {key.digest: key for key in news.keys}
        self._stored, self.version = stored, news.version

    def find(self, key: str, at_ms: int) -> KeyRules | None:
        """The rules of a key that is accepted at that time."""
        wanted = digest(key)
        rules = self._configured.get(wanted)
        if rules is not None:
            return None if is_over(rules, at_ms) else rules
        stored = self._stored.get(wanted)
        if stored is None:
            return None
        until = stored.valid_until_ms
        return stored.rules if until is None or at_ms < until else None


def presented(request: Request) -> list[str]:
    """The keys that a request carries, as their bytes came."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found = [token.strip() if scheme.lower() == "bearer" else "", _last(request, "x-api-key")]
    # Starlette reads headers as Latin-1; a key is meant as UTF-8.
    return [key.encode("latin-1", "replace").decode("utf-8", "surrogateescape") for key in found if key]


def admit(request: Request, auth: AuthState, callers: Callers, at_ms: int) -> Response | None:
    """None: the caller may go on, and the request's state has its `rules` (None: no keys are asked for) and the `scope`
    of what it may see. Else the answer that refuses it."""
    request.state.rules, request.state.scope = None, EVERYTHING
    if not auth.enabled:
        return None
    keys = presented(request)
    rules = next((rules for key in keys if (rules := callers.find(key, at_ms)) is not None), None)
    if rules is None and keys and not callers.version:
        message = "Keys cannot be looked up, for the database does not answer."
        return error_answer(request, 503, message, code="keys_unavailable", headers={"retry-after": "1"})
    if rules is None:
        return error_answer(
            request,
            401,
            "A valid API key is needed: `Authorization: Bearer <key>` or `x-api-key: <key>`.",
            code="invalid_api_key",
        )
    asked = _last(request, "x-tenant-id") if rules.trusted and not rules.tenant else ""
    if asked and not _is_name(asked):
        message = "X-Tenant-ID must be a name of at most 64 letters, digits, dots, dashes or underscores."
        return error_answer(request, 400, message, code="invalid_header", param="X-Tenant-ID")
    request.state.rules, request.state.scope = rules, _scope(rules, asked)
    return None


def _last(request: Request, name: str) -> str:
    """Of a header that comes twice the last value counts, as it does for the requests that go to providers."""
    return next(reversed(request.headers.getlist(name)), "")


def usable(request: Request, models: Iterable[ModelState]) -> tuple[ModelState, ...]:
    """Those that the caller's key may use."""
    rules: KeyRules | None = request.state.rules
    if rules is None:
        return tuple(models)
    return tuple(model for model in models if allowed(model, rules.models, rules.tiers))


def is_restricted(request: Request) -> bool:
    """Whether its key may not use every model."""
    rules: KeyRules | None = request.state.rules
    return rules is not None and (rules.models is not None or rules.tiers is not None)


def _scope(rules: KeyRules, asked: str) -> Scope:
    if rules.tenant or asked:
        return Scope(tenant=rules.tenant or asked)
    return EVERYTHING if rules.trusted else Scope(tenant="", key_name=rules.name)


def _is_name(text: str) -> bool:
    try:
        _NAME.validate_python(text)
    except ValidationError:
        return False
    return True
