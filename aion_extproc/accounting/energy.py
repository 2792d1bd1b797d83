"""What energy an answer took, as a range. Nobody measures it at a provider's: this is an estimate, and says so.

    E = read · prefill + written · decode                  per token, by the model's active parameters

The lower end is the seed's table: J per token of 8, 70 and 400 billion parameters in a full batch on the newest
hardware, straight lines between and through zero. What was read from a prompt cache takes nothing there. The upper end
is what was measured where batches are small, with the rest of the server and its cooling counted in: 25 mJ per token
and billion parameters of Llama 3.1 8B, 64 at a time on an H100 (ml.energy, "LLM Inference Energy: A Longitudinal
Analysis"), twice that for what is not the accelerator. On a machine of one's own a request is often alone: then all of
the weights are read for every token, about 400 mJ per billion, whatever the hardware. Reading a token takes a quarter
of writing one (arXiv 2511.05597), cached or not.

Size alone does not decide (arXiv 2511.05597): batch, hardware, quantisation and length move it by orders of magnitude.
That is why it is a range, and why the range is wide. Where a model's size is unknown its tier stands for it.

Integers only: microjoules inside, rounded outwards to millijoules at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model

# (millions of parameters, µJ to read a token, µJ to write one)
_LEAST = ((0, 0, 0), (8_000, 2_000, 15_000), (70_000, 18_000, 120_000), (400_000, 85_000, 650_000))
# µJ to write a token for a million parameters
_MOST_HOSTED, _MOST_LOCAL = 50, 400
_READ_OF_WRITTEN = 4  # reading is so many times less than writing, at the upper end
_UJ_PER_MJ = 1000
_MJ_PER_WH = 3_600_000

SOURCE = "estimate by active parameters; ml.energy and arXiv 2511.05597, see docs/costs.md"
SOURCE_TIER = "estimate by the tier's assumed sizes, for the model's is not known; see docs/costs.md"


@dataclass(frozen=True, slots=True)
class Energy:
    """Millijoules from the least to the most that is likely, and where the figures come from."""

    low_mj: int
    high_mj: int
    source: str


def energy(model: Model, usage: Usage) -> Energy | None:
    """The energy of one answer; None: nothing is known of the model."""
    if model.parameters_m is None:
        return None
    least, most = model.parameters_m
    read, write = _least(least)
    fresh = max(0, usage.input_tokens - usage.cache_read_tokens)
    low = fresh * read + usage.output_tokens * write
    per_million = _MOST_LOCAL if model.local else _MOST_HOSTED
    # Output counts whole: a quarter of it would be lost if the sum were divided first.
    high = -(-most * per_million * (usage.input_tokens + _READ_OF_WRITTEN * usage.output_tokens) // _READ_OF_WRITTEN)
    source = SOURCE if least == most else SOURCE_TIER
    return Energy(low // _UJ_PER_MJ, -(-high // _UJ_PER_MJ), source)


def _least(millions: int) -> tuple[int, int]:
    """µJ to read and to write a token, on the line through the table's neighbouring points."""
    above = next((index for index in range(1, len(_LEAST)) if millions <= _LEAST[index][0]), None)
    if above is None:
        size, read, write = _LEAST[-1]
        return read * millions // size, write * millions // size
    (size0, read0, write0), (size1, read1, write1) = _LEAST[above - 1], _LEAST[above]
    part, whole = millions - size0, size1 - size0
    return read0 + (read1 - read0) * part // whole, write0 + (write1 - write0) * part // whole


def wh(mj: int) -> Decimal:
    """Watt-hours: 3,600,000 mJ are one."""
    return Decimal(mj) / _MJ_PER_WH


def co2_grams(mj: int, g_per_kwh: Decimal) -> Decimal:
    """Grams of CO₂ at so many for a kilowatt-hour of the grid."""
    return Decimal(mj) * g_per_kwh / (_MJ_PER_WH * 1000)
