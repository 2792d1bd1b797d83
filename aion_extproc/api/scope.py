"""Whose numbers a caller may see: the guard puts it into `request.state.scope`."""

from __future__ import annotations

from fastapi import Request

from aion_extproc.stores.scope import EVERYTHING, Scope

__all__ = ["EVERYTHING", "Scope", "scope_of"]


def scope_of(request: Request) -> Scope:
    """What the guard has found. Without it (auth is off) everything."""
    scope = getattr(request.state, "scope", EVERYTHING)
    assert isinstance(scope, Scope)
    return scope
