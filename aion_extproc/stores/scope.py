"""Whose requests a question to the ledger is about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """None: all of them; "": those that have none."""

    tenant: str | None = None
    key_name: str | None = None
    service: str | None = None


EVERYTHING = Scope()
