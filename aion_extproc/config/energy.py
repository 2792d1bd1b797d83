"""The section energy of aion.yaml, and how large a model is."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

from aion_extproc.config.values import Section, fault


def _number(value: object) -> Decimal:
    """A plain number, exactly as written. A float can only come from Python: its repr counts."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise fault("must be a number")
    try:
        number = Decimal(str(value).strip())
    except ArithmeticError:
        raise fault("must be a number") from None
    if not number.is_finite():
        raise fault("must be a number")
    return number


def _size(value: object) -> Decimal:
    size = _number(value)
    if not Decimal("0.001") <= size <= 100_000 or size * 1000 % 1:
        raise fault("must be billions of parameters, such as 8 or 0.6, with three decimals at most")
    return size


def _intensity(value: object) -> Decimal:
    grams = _number(value)
    if not 0 <= grams <= 5000:
        raise fault("must be grams of CO₂ per kilowatt-hour, from 0 to 5000")
    return grams


Size = Annotated[Decimal, BeforeValidator(_size)]


class EnergySettings(Section):
    """What is assumed of the power that models run on."""

    grid_g_per_kwh: Annotated[Decimal, BeforeValidator(_intensity)] = Field(default=Decimal(400))
