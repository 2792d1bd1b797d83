"""From what was spent to the news of a budget: once for each threshold that it passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aion_extproc.accounting.allowances import Budget, Scope
from aion_extproc.accounting.cost import usd


class Warnings:
    """`budgets` knows those of a key, tenant or service by its name; `emit` is told the events."""

    def __init__(
        self, budgets: Callable[[Scope, str], tuple[Budget, ...]], emit: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._budgets = budgets
        self._emit = emit

    def spent(self, account: str, before: int, after: int) -> None:
        """Spending on an account went from `before` to `after` nano-dollars."""
        scope, _, rest = account.partition(":")
        name, _, period = rest.rpartition(":")
        known: Scope = "key" if scope == "key" else "tenant" if scope == "tenant" else "service"
        for budget in self._budgets(known, name):
            if len(period) != {"day": 8, "month": 6}[budget.period]:
                continue
            passed = [
                percent
                for percent in budget.warn_at
                if before * 100 < budget.limit_nano * percent <= after * 100
            ]
            if passed:  # the highest tells of those below it
                self._emit(_event(budget, max(passed), period, after))


def _event(budget: Budget, percent: int, period: str, spent: int) -> Mapping[str, Any]:
    began = "-".join(filter(None, (period[:4], period[4:6], period[6:])))
    return {
        "type": "budget.exhausted" if percent == 100 else "budget.warning",
        "data": {
            "scope": budget.scope,
            "name": budget.name,
            "period": budget.period,
            "began": began,  # 2026-11-22, or 2026-11
            "limit_usd": usd(budget.limit_nano),
            "spent_usd": usd(spent),
            "percent": percent,
        },
    }
