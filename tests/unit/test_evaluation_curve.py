"""Rankings and what they are worth: against a brute force that routes row by row, and against what must hold."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations, product
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.classify.classification import Thresholds
from aion_extproc.evaluation.curve import EQUAL, Floats, apgr, auc, cpt, least_cost, saved, trace
from aion_extproc.evaluation.data import Outcomes
from aion_extproc.evaluation.measures import at_thresholds, bootstrap, measure, point, tiers

# Quality in quarters and few scores: ties, losses and equal qualities are the usual case.
QUALITY = st.integers(0, 4).map(lambda quarters: quarters / 4)
ROW = st.tuples(st.integers(0, 5), QUALITY, QUALITY)
ROWS = st.lists(ROW, min_size=1, max_size=30)
BETTER = ROWS.filter(lambda rows: sum(strong - weak for _, weak, strong in rows) > 0)  # the strong model, in the mean


def columns(rows: list[tuple[int, float, float]]) -> tuple[list[float], list[float]]:
    return [float(score) for score, _, _ in rows], [strong - weak for _, weak, strong in rows]


def area_of_order(gains: list[Fraction]) -> Fraction:
    """APGR of rows that go to the strong model one after the other."""
    n, total = len(gains), sum(gains)
    recovered = [sum(gains[:cut], Fraction(0)) / total for cut in range(n + 1)]
    return sum(((recovered[cut] + recovered[cut + 1]) / 2 / n for cut in range(n)), Fraction(0))


def outcomes(rows: list[tuple[int, float, float]], costs: list[tuple[float, float]] | None = None) -> Outcomes:
    quality = np.array([[weak for _, weak, _ in rows], [strong for _, _, strong in rows]])
    if costs is None:
        return Outcomes(("weak", "strong"), "", quality, np.outer([0.0, 1.0], np.ones(len(rows))), "calls")
    return Outcomes(("weak", "strong"), "", quality, np.array(costs).T, "USD")


@given(st.lists(ROW, min_size=1, max_size=6).filter(lambda rows: sum(s - w for _, w, s in rows) > 0))
def test_the_area_is_the_mean_over_all_orders_of_equal_scores(rows: list[tuple[int, float, float]]) -> None:
    blocks = [
        [Fraction(strong - weak) for score, weak, strong in rows if score == value]
        for value in sorted({score for score, _, _ in rows}, reverse=True)
    ]
    every = [
        area_of_order([gain for block in order for gain in block])
        for order in product(*(list(permutations(block)) for block in blocks))
    ]
    assert apgr(*columns(rows)) == pytest.approx(float(sum(every) / len(every)), abs=1e-12)


@given(BETTER)
def test_no_ranking_beats_the_oracle_or_is_worse_than_its_reverse(rows: list[tuple[int, float, float]]) -> None:
    score, gain = columns(rows)
    oracle, ours, worst = apgr(gain, gain), apgr(score, gain), apgr([-value for value in gain], gain)
    assert oracle is not None
    assert ours is not None
    assert worst is not None
    assert oracle + EQUAL >= ours >= worst - EQUAL
    assert oracle >= 0.5 - EQUAL
    assert oracle + worst == pytest.approx(1, abs=1e-9)


@given(BETTER, st.floats(0.01, 1))
def test_chance_is_a_half_and_recovers_as_much_as_it_calls(rows: list[tuple[int, float, float]], target: float) -> None:
    _, gain = columns(rows)
    assert apgr([7.0] * len(gain), gain) == pytest.approx(0.5, abs=1e-12)
    assert cpt([7.0] * len(gain), gain, target) == pytest.approx(target, abs=1e-9)


@given(BETTER, st.randoms(use_true_random=False))
def test_the_order_of_the_lines_and_the_scale_of_the_score_do_not_matter(
    rows: list[tuple[int, float, float]], random: Random
) -> None:
    before, shuffled = measure(*_measured(rows)), list(rows)
    random.shuffle(shuffled)
    moved = measure(*_measured([(score**3 + 10, weak, strong) for score, weak, strong in shuffled]))
    for name in ("apgr", "cpt50", "cpt80", "auc"):
        assert getattr(moved, name) == pytest.approx(getattr(before, name), abs=1e-9)
    for share, value in before.saved.items():
        assert moved.saved[share] == pytest.approx(value, abs=1e-9)


def _measured(rows: list[tuple[int, float, float]]) -> tuple[Floats, Outcomes]:
    return np.array([float(score) for score, _, _ in rows]), outcomes(rows)


@given(BETTER, st.floats(0, 1), st.floats(0, 1))
def test_more_quality_takes_no_fewer_calls(rows: list[tuple[int, float, float]], one: float, other: float) -> None:
    score, gain = columns(rows)
    less, more = cpt(score, gain, min(one, other)), cpt(score, gain, max(one, other))
    assert less is not None
    assert more is not None
    assert 0 <= less <= more + 1e-9
    assert more <= 1


@given(BETTER, st.floats(0.01, 0.99))
def test_cpt_is_the_first_share_that_recovers_so_much(rows: list[tuple[int, float, float]], target: float) -> None:
    """Sending the highest share of the rows, in expectation, and a little less."""
    score, gain = columns(rows)
    least = cpt(score, gain, target)
    assert least is not None
    curve = trace(score, *(row for row in outcomes(rows).quality), *(row for row in outcomes(rows).cost))

    def pgr(share: float) -> float:
        quality = float(np.interp(share, curve.share, curve.quality))
        return (quality - float(curve.quality[0])) / float(curve.quality[-1] - curve.quality[0])

    assert pgr(least) >= target - 1e-9
    assert all(pgr(share) < target for share in np.linspace(0, least, 50)[:-1] if share < least - 1e-9)


@given(ROWS, st.data())
def test_the_ends_of_the_curve_are_always_weak_and_always_strong(
    rows: list[tuple[int, float, float]], data: st.DataObject
) -> None:
    cost = st.floats(0, 1)
    costs = data.draw(st.lists(st.tuples(cost, cost), min_size=len(rows), max_size=len(rows)))
    results = outcomes(rows, costs)
    curve = trace([score for score, _, _ in rows], *results.quality, *results.cost)
    ends = curve.share[[0, -1]], curve.quality[[0, -1]], curve.cost[[0, -1]]
    assert ends[0].tolist() == [0, 1]
    assert ends[1] == pytest.approx(results.quality.mean(axis=1), abs=1e-12)
    assert ends[2] == pytest.approx(results.cost.mean(axis=1), abs=1e-12)
    assert (np.diff(curve.share) > 0).all()


@given(ROWS, st.data())
def test_the_least_cost_is_that_of_a_fine_search(rows: list[tuple[int, float, float]], data: st.DataObject) -> None:
    """Along the line, in small steps: what reaches the quality costs no less than was said, and nearly as little."""
    costs = data.draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 8)).map(lambda pair: (float(pair[0]), float(pair[1]))),
            min_size=len(rows),
            max_size=len(rows),
        )
    )
    results = outcomes(rows, costs)
    curve = trace([score for score, _, _ in rows], *results.quality, *results.cost)
    wanted = data.draw(st.floats(0, 1))
    shares = np.unique(np.concatenate((np.linspace(0, 1, 5001), curve.share)))
    quality, cost = np.interp(shares, curve.share, curve.quality), np.interp(shares, curve.share, curve.cost)
    reached = cost[quality >= wanted]
    said = least_cost(curve, wanted)
    if said is None:
        assert not reached.size
    elif reached.size:
        assert said <= reached.min() + 1e-9
        assert reached.min() - said < 0.02  # a step is at most 8 · 30 / 5000 of a row's cost


def test_a_small_case_by_hand() -> None:
    """Four rows: the strong model helps with two of them, and costs 3 where the weak one costs 1."""
    rows = [(9, 0.0, 1.0), (5, 1.0, 1.0), (3, 0.0, 1.0), (1, 1.0, 1.0)]
    results = outcomes(rows, [(1.0, 3.0)] * 4)
    found = measure(np.array([9.0, 5.0, 3.0, 1.0]), results)
    assert found.apgr == pytest.approx((0.25 + 0.5 + 0.75 + 1) / 4)  # PGR is 0, .5, .5, 1, 1 at the five cuts
    assert found.cpt50 == pytest.approx(0.25)
    assert found.cpt80 == pytest.approx(0.65)
    assert found.auc == pytest.approx(0.5 + 0.625 / 2)
    assert found.saved[1.0] == pytest.approx(1 - 2.5 / 3)  # three of four calls: 3 · 3 + 1 = 10 in place of 12
    assert found.saved[0.95] == pytest.approx(1 - (2.0 + 0.5 * 0.8) / 3)


def test_a_strong_model_that_is_no_better_has_no_apgr() -> None:
    same = [(1, 0.5, 0.5), (2, 1.0, 1.0)]
    worse = [(1, 1.0, 0.0), (2, 1.0, 1.0)]
    for rows in (same, worse):
        score, gain = columns(rows)
        assert apgr(score, gain) is None
        assert cpt(score, gain, 0.5) is None
        found = measure(np.array(score), outcomes(rows))
        assert found.saved[1.0] == 1  # always-weak is as good, and free
        assert bootstrap({"it": np.array(score)}, np.array(gain), 50, 0) == {"it": None}


def test_models_that_cost_the_same_have_no_cost_curve() -> None:
    curve = trace([2.0, 1.0], np.zeros(2), np.ones(2), np.ones(2), np.ones(2))
    assert auc(curve) is None
    assert saved(curve, 1.0) == 0
    free = trace([2.0, 1.0], np.zeros(2), np.ones(2), np.zeros(2), np.zeros(2))
    assert saved(free, 1.0) is None


@pytest.mark.parametrize("score", [[], [float("nan"), 1.0]])
def test_what_cannot_be_ranked_is_refused(score: list[float]) -> None:
    with pytest.raises(ValueError, match="score"):
        apgr(score, [1.0] * len(score))


@given(st.floats(0, 1), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1))
def test_tiers_are_those_of_routing(one: float, other: float, scores: list[float]) -> None:
    thresholds = Thresholds(min(one, other), max(one, other))
    scores += [one, other]
    assert tiers(np.array(scores), thresholds).tolist() == [thresholds.tier(score) for score in scores]


@given(BETTER, st.floats(0, 5), st.floats(0, 5))
def test_the_two_readings_of_tier_2_are_two_routers(
    rows: list[tuple[int, float, float]], one: float, other: float
) -> None:
    thresholds, results = Thresholds(min(one, other), max(one, other)), outcomes(rows)
    score = np.array([float(score) for score, _, _ in rows])
    shares, to_weak, to_strong = at_thresholds(score, results, thresholds)
    assert sum(shares) == pytest.approx(1)
    for found, least in ((to_weak, 3), (to_strong, 2)):
        routed = [strong if thresholds.tier(value) >= least else weak for value, weak, strong in rows]
        assert found.quality == pytest.approx(sum(routed) / len(rows), abs=1e-12)
        called = sum(thresholds.tier(value) >= least for value, _, _ in rows) / len(rows)
        assert found.shares == pytest.approx((1 - called, called))
        assert found.saved == pytest.approx(1 - called)


def test_always_strong_saves_and_loses_nothing() -> None:
    results = outcomes([(1, 0.0, 1.0), (2, 0.5, 0.5)], [(1.0, 4.0), (1.0, 4.0)])
    strong = point(np.array([1, 1]), results)
    assert (strong.saved, strong.loss, strong.pgr, strong.cost) == (0, 0, 1, 4)
    weak = point(np.array([0, 0]), results)
    assert (weak.saved, weak.pgr) == (0.75, 0)
    assert weak.loss == pytest.approx(2 / 3)


class TestBootstrap:
    RANDOM = np.random.default_rng(5)
    SCORE = RANDOM.random(400)
    GAIN = (RANDOM.random(400) < 0.2 + 0.3 * SCORE).astype(float) - (RANDOM.random(400) < 0.1)

    def test_the_interval_is_about_the_figure_and_the_same_again(self) -> None:
        found = bootstrap({"it": self.SCORE}, self.GAIN, 300, 7)
        area, interval = apgr(self.SCORE, self.GAIN), found["it"]
        assert area is not None
        assert interval is not None
        assert interval.low < area < interval.high
        assert found == bootstrap({"it": self.SCORE}, self.GAIN, 300, 7)
        assert found != bootstrap({"it": self.SCORE}, self.GAIN, 300, 8)

    def test_it_is_the_quantiles_of_resampled_files(self) -> None:
        random = np.random.default_rng(0)
        areas = []
        for _ in range(200):
            drawn = random.integers(400, size=400)
            areas.append(apgr(self.SCORE[drawn], self.GAIN[drawn]))
        low, high = np.percentile(np.array(areas, float), [2.5, 97.5])
        interval = bootstrap({"it": self.SCORE}, self.GAIN, 200, 0)["it"]
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)

    def test_rows_of_a_group_are_drawn_together(self) -> None:
        """Twenty copies of twenty rows say no more than the twenty rows."""
        score, gain = np.tile(self.SCORE[:20], 20), np.tile(self.GAIN[:20], 20)
        groups = [str(index % 20) for index in range(400)]
        by_rows = bootstrap({"it": score}, gain, 200, 0)["it"]
        by_groups = bootstrap({"it": score}, gain, 200, 0, groups)["it"]
        assert by_rows is not None
        assert by_groups is not None
        assert by_groups.high - by_groups.low > 2 * (by_rows.high - by_rows.low)
