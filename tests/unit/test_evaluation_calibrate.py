"""Thresholds that are chosen meet their target when every row is routed by them, and no others would be better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.accounting.row import LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model, Prices, Rate
from aion_extproc.classify.classification import Thresholds
from aion_extproc.evaluation import calibrate, ledger_costs, tables
from aion_extproc.evaluation.calibrate import MOST_CUTS, Target
from aion_extproc.evaluation.data import Outcomes
from aion_extproc.stores.ledger import INT64_MAX, Ledger

SCORE = st.sampled_from([0.0, 0.2, 0.35, 0.350001, 0.5, 0.7, 0.9, 1.0])
QUALITY = st.integers(0, 4).map(lambda quarters: quarters / 4)
COST = st.integers(1, 20).map(float)
TARGETS = st.tuples(st.sampled_from(("savings", "quality loss")), st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.6, 0.9]))

Labelled = tuple[list[float], Outcomes]


@st.composite
def labelled(draw: st.DrawFn, models: int) -> Labelled:
    n = draw(st.integers(1, 9))

    def several(what: st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(what, min_size=n, max_size=n))

    quality = np.array([several(QUALITY) for _ in range(models)])
    cost = np.array([several(COST) for _ in range(models)])
    cost[-1] += cost[0]  # always-strong costs more than always-weak
    names = ("a", "b", "c")[:models]
    return several(SCORE), Outcomes(names, "", quality, cost, "USD")


def routed(score: list[float], results: Outcomes, thresholds: Thresholds) -> tuple[float, float] | None:
    """Mean cost and quality, row by row; None: a row is on a tier that has no model of its own."""
    models = {1: 0, 2: 1, 3: 2} if len(results.models) == 3 else {1: 0, 3: 1}
    tiers = [thresholds.tier(value) for value in score]
    if any(tier not in models for tier in tiers):
        return None
    cost = sum(results.cost[models[tier], row] for row, tier in enumerate(tiers)) / len(tiers)
    return float(cost), float(sum(results.quality[models[tier], row] for row, tier in enumerate(tiers)) / len(tiers))


def everything_there_is(score: list[float], results: Outcomes) -> Iterator[tuple[float, float]]:
    """Cost and quality of all thresholds that route differently."""
    middles = [(one + other) / 2 for one, other in zip(sorted(score), sorted(score)[1:], strict=False)]
    places = sorted({0.0, 1.0, *score, *middles})
    for first in places:
        for second in places:
            if first <= second and (found := routed(score, results, Thresholds(first, second))) is not None:
                yield found


@pytest.mark.parametrize("models", [2, 3])
@given(data=st.data(), target=TARGETS)
def test_the_chosen_thresholds_meet_the_target_and_no_others_are_better(
    models: int, data: st.DataObject, target: tuple[Target, float]
) -> None:
    score, results = data.draw(labelled(models))
    what, value = target
    every = list(everything_there_is(score, results))
    found = calibrate.frontier(np.array(score), results)
    chosen = calibrate.choose(found, np.array(score), results, what, value)
    exact = routed(score, results, chosen.thresholds)
    assert exact is not None
    assert (chosen.point.cost, chosen.point.quality) == pytest.approx(exact)

    most, best = float(results.cost[-1].mean()), float(results.quality[-1].mean())
    cost, quality = exact
    if what == "savings":
        able = [other for other in every if other[0] <= (1 - value) * most + 1e-9]
        assert chosen.met == bool(able)
        if able:
            assert cost <= (1 - value) * most + 1e-9
            assert quality == pytest.approx(max(other[1] for other in able))
        else:
            assert cost == pytest.approx(min(other[0] for other in every))
    else:
        able = [other for other in every if other[1] >= (1 - value) * best - 1e-9]
        assert chosen.met == bool(able)
        if able:
            assert quality >= (1 - value) * best - 1e-9
            assert cost == pytest.approx(min(other[0] for other in able))
        else:
            assert quality == pytest.approx(max(other[1] for other in every))


@given(labelled(3))
def test_the_curve_gets_better_with_every_dollar(rows: Labelled) -> None:
    score, results = rows
    found = calibrate.frontier(np.array(score), results)
    assert (np.diff(found.cost) > 0).all()
    assert (np.diff(found.quality) > 0).all()
    assert (found.tier1 <= found.tier2).all()
    assert ((found.tier1 >= 0) & (found.tier2 <= 1)).all()


def test_many_scores_are_looked_at_in_even_steps() -> None:
    random = np.random.default_rng(0)
    score = random.random(5000)
    quality = np.array([random.random(5000) < level for level in (0.3, 0.5, 0.9)]).astype(float)
    results = Outcomes(("a", "b", "c"), "", quality, np.outer([1.0, 3.0, 9.0], np.ones(5000)), "USD")
    found = calibrate.frontier(score, results)
    assert found.thinned
    assert found.looked_at <= MOST_CUTS * (MOST_CUTS + 1) / 2
    chosen = calibrate.choose(found, score, results, "savings", 0.5)
    assert chosen.met
    assert chosen.point.saved == pytest.approx(0.5, abs=0.002)


def test_what_is_shown_of_a_curve_has_its_ends_and_the_chosen_point() -> None:
    shown = tables.spread([index / 500 for index in range(501)], 123)
    assert {0, 123, 500} <= set(shown)
    assert len(shown) <= tables.SHOWN + 1


def priced(tier: int, usd_per_1m: int) -> Model:
    rate = Rate(usd_per_1m * 10**6)
    return Model(f"tier-{tier}", "somebody", tier, Prices(rate, rate), None, False, frozenset())


TIERS = [[priced(1, 1), priced(1, 2)], [priced(2, 4)], [priced(3, 10)]]
ROWS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=1, max_size=40)


def ledger_row(number: int, score: float | None, tokens: int, at_ms: int = 1_000) -> LedgerRow:
    return LedgerRow(str(number), at_ms, "served", 200, score=score, usage=Usage(tokens, tokens))


class TestLedger:
    @given(ROWS, st.sampled_from([0.1, 0.35, 0.6, 0.85, 0.9]))
    def test_the_first_thresholds_on_the_way_that_save_enough_are_chosen(
        self, rows: list[tuple[float, int]], target: float
    ) -> None:
        """A token costs 1 on tier 1, 4 on tier 2, 10 on tier 3."""
        configured = Thresholds(0.35, 0.7)
        costs = ledger_costs.costs([ledger_row(n, *row) for n, row in enumerate(rows)], TIERS)
        assert costs is not None
        found = ledger_costs.savings(costs, configured)
        chosen, met = ledger_costs.choose(found, target)

        def by_hand(thresholds: Thresholds) -> float:
            price = {1: 1, 2: 4, 3: 10}
            spent = sum(price[thresholds.tier(score)] * tokens for score, tokens in rows)
            return 1 - spent / sum(10 * tokens for _, tokens in rows)

        for saving in found[:: len(found) // 20]:
            assert saving.saved == pytest.approx(by_hand(saving.thresholds))
            assert sum(saving.shares) == pytest.approx(1)
        assert any(saving.thresholds == configured for saving in found)
        assert met == any(by_hand(saving.thresholds) >= target - 1e-9 for saving in found)
        if met:
            assert by_hand(found[chosen].thresholds) >= target - 1e-9
            assert all(by_hand(saving.thresholds) < target for saving in found[:chosen])

    def test_a_tier_without_models_is_that_of_the_next_one_above(self) -> None:
        rows = [ledger_row(1, 0.5, 100)]
        for tiers, price in (([TIERS[0], [], TIERS[2]], 10), ([TIERS[0], TIERS[1], []], 4)):
            costs = ledger_costs.costs(rows, tiers)
            assert costs is not None
            assert costs.nano[1].tolist() == [200 * price * 1000]

    def test_what_was_not_classified_or_not_answered_is_left_out(self) -> None:
        rows = [ledger_row(1, None, 100), ledger_row(2, 0.5, 0)]
        assert ledger_costs.costs(rows, TIERS) is None
        costs = ledger_costs.costs([*rows, ledger_row(3, 0.25, 5)], TIERS)
        assert costs is not None
        assert costs.score.tolist() == [0.25]

    def test_models_that_are_free_save_nothing(self) -> None:
        free = [[priced(tier, 0)] for tier in (1, 2, 3)]
        costs = ledger_costs.costs([ledger_row(1, 0.5, 100)], free)
        assert costs is not None
        with pytest.raises(ValueError, match="tier 3 costs nothing"):
            ledger_costs.savings(costs, Thresholds())

    def test_every_row_is_read_once_whatever_moments_they_share(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledger_costs, "PAGE", 4)
        moments = [1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5]
        rows = [replace(ledger_row(number, 0.5, 1), at_ms=at) for number, at in enumerate(moments)]
        ledger = Ledger(tmp_path / "aion.db")
        ledger.add(rows)
        read = [row.request_id for row in ledger_costs.pages(ledger, 1, INT64_MAX)]
        late = [row.request_id for row in ledger_costs.pages(ledger, 4, INT64_MAX)]
        ledger.close()
        assert sorted(read, key=int) == [row.request_id for row in rows]
        assert sorted(late, key=int) == ["13", "14", "15"]
