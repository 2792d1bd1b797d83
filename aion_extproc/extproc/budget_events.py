"""From what was spent to the news of a budget: once for each threshold that it passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aion_extproc.accounting.allowances import Budget, Scope
from aion_extproc.accounting.cost import usd

SPENT = "spent"  # the kind of news by which a worker tells: {"account", "before", "after"}
_MOST_REMEMBERED = 10_000


class BudgetEvents:
    """`budgets` knows those of a key, tenant or service by its name; `emit` is told the events.

    A budget is exhausted when it is spent, or when a request is refused because what is left cannot hold it: whatever
    comes first, and again only after a new start.
    """

    def __init__(
        self, budgets: Callable[[Scope, str], tuple[Budget, ...]], emit: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._budgets = budgets
        self._emit = emit
        self._exhausted: set[str] = set()

    def spent(self, account: str, before: int, after: int) -> None:
        """Spending on an account went from `before` to `after` nano-dollars."""
        budget, period = self._budget(account)
        if budget is None:
            return
        passed = [p for p in budget.warn_at if before * 100 < budget.limit_nano * p <= after * 100]
        if passed:  # the highest tells of those below it
            self._tell(account, budget, max(passed), period, after)

    def refused(self, denied: str) -> None:
        """A request was; `denied` is what its facts say of it."""
        account, _, used = denied.partition(" ")
        budget, period = self._budget(account)
        if budget is not None and 100 in budget.warn_at:
            self._tell(account, budget, 100, period, int(used))

    def _tell(self, account: str, budget: Budget, percent: int, period: str, spent: int) -> None:
        if percent == 100:
            if account in self._exhausted:
                return
            if len(self._exhausted) >= _MOST_REMEMBERED:
                self._exhausted.clear()
            self._exhausted.add(account)
        self._emit(_event(budget, percent, period, spent))

    def _budget(self, account: str) -> tuple[Budget | None, str]:
        """Whose account that is, and its day or month."""
        scope, _, rest = account.partition(":")
        name, _, period = rest.rpartition(":")
        known: Scope = "key" if scope == "key" else "tenant" if scope == "tenant" else "service"
        kind = "day" if len(period) == len("20261122") else "month"
        return next((one for one in self._budgets(known, name) if one.period == kind), None), period


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
