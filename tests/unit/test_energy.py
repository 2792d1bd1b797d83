"""Energy: a range that contains what was measured, in whole millijoules."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.accounting.energy import SOURCE, SOURCE_TIER, Energy, co2_grams, energy, wh
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model, Prices, Rate

COUNT = st.integers(0, 10**7)
SIZE = st.integers(1, 3_000_000)


def model(least: int, most: int | None = None, *, local: bool = False) -> Model:
    """Of so many millions of parameters."""
    sizes = (least, least if most is None else most)
    return Model("m", "p", 1, Prices(Rate(1), Rate(1)), None, local, frozenset(), parameters_m=sizes)


def estimated(one: Model, usage: Usage) -> Energy:
    found = energy(one, usage)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("millions", "read_uj", "write_uj"), [(8_000, 2_000, 15_000), (70_000, 18_000, 120_000), (400_000, 85_000, 650_000)]
)
def test_the_lower_end_is_the_seeds_table(millions: int, read_uj: int, write_uj: int) -> None:
    found = estimated(model(millions), Usage(1000, 100))
    assert found.low_mj == (1000 * read_uj + 100 * write_uj) // 1000


def test_by_hand() -> None:
    # 8 billion: 1000 · 2 mJ + 100 · 15 mJ, and 1000 · 100 mJ + 100 · 400 mJ
    assert energy(model(8_000), Usage(1000, 100)) == Energy(3_500, 140_000, SOURCE)
    assert estimated(model(8_000, local=True), Usage(1000, 100)).high_mj == 8 * 140_000
    # Half way between the table's points, and through zero below the first.
    assert estimated(model(39_000), Usage(1000, 0)).low_mj == 10_000
    assert estimated(model(4_000), Usage(1000, 0)).low_mj == 1_000
    assert estimated(model(800_000), Usage(1000, 0)).low_mj == 170_000
    assert energy(model(1, 2), Usage(1, 0)) == Energy(0, 1, SOURCE_TIER)


# J for a written token: ml.energy's Llama 3.1 8B on an H100 (64 at a time, two versions of vLLM) and Qwen 3 32B on a
# B200 (128 at a time, and 512).
@pytest.mark.parametrize(("millions", "joules"), [(8_000, 0.12), (8_000, 0.20), (32_000, 0.209), (32_000, 0.151)])
def test_what_was_measured_is_within_the_range(millions: int, joules: float) -> None:
    found = estimated(model(millions), Usage(0, 1000))
    assert found.low_mj < joules * 1_000_000 < found.high_mj


@given(SIZE, SIZE, COUNT, COUNT, COUNT, st.booleans())
def test_it_is_a_range_and_grows_with_all_it_depends_on(
    size: int, more: int, read: int, written: int, cached: int, local: bool
) -> None:
    usage = Usage(read + cached, written, cache_read_tokens=cached)
    found = estimated(model(size, local=local), usage)
    assert 0 <= found.low_mj <= found.high_mj
    for larger in (
        estimated(model(size + more, local=local), usage),
        estimated(model(size, local=local), Usage(read + cached, written)),
        estimated(model(size, local=local), Usage(read + cached + 1, written + 1, cache_read_tokens=cached)),
    ):
        assert larger.low_mj >= found.low_mj
        assert larger.high_mj >= found.high_mj
    wide = estimated(model(size, size + more, local=local), usage)
    assert (wide.low_mj, wide.high_mj) == (found.low_mj, estimated(model(size + more, local=local), usage).high_mj)


def test_nothing_is_said_of_a_model_of_which_nothing_is_known() -> None:
    unknown = Model("m", "p", 0, None, None, False, frozenset())
    assert energy(unknown, Usage(1000, 100)) is None


@given(COUNT, st.integers(0, 5000))
def test_watt_hours_and_grams(mj: int, intensity: int) -> None:
    assert wh(3_600_000) == 1
    assert wh(mj) * 3_600_000 - mj < Decimal("1e-15")
    assert co2_grams(3_600_000_000, Decimal(intensity)) == intensity  # of a kilowatt-hour
    assert abs(co2_grams(mj, Decimal(intensity)) - wh(mj) * intensity / 1000) < Decimal("1e-15")
