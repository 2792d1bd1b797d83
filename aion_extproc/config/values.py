"""The kinds of value that `aion.yaml` is made of, and what all its sections have in common.

A validator that knows a more exact place than its own model names it to `fault`.
"""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

PICO_DIGITS = 6  # a price has at most so many decimals: the ledger counts in 10⁻¹² USD for a token
NANO_DIGITS = 9  # an amount is counted in nano-dollars

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_YEAR = 365 * 86400.0

_HEADER_TEXT = r"[!-~]{1,256}"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}"
# In OpenAPI documents; a string keeps what a number of JSON may lose.
_AMOUNT_SCHEMA = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000}, {"type": "string", "maxLength": 64}]
}


def fault(message: str, *at: str | int) -> PydanticCustomError:
    """An error with its own words at a place below the model that raises it."""
    return PydanticCustomError("aion", "{message}", {"message": message, "at": at})


def seconds(value: object) -> float:
    """Seconds from "500ms", "5s", "2m", "1h", "1d" or a number of seconds; positive."""
    result = _duration(value)
    if not 0 < result < _YEAR:
        raise fault("must be longer than zero and shorter than a year")
    return result


def _seconds_or_zero(value: object) -> float:
    result = _duration(value)
    if not 0 <= result < _YEAR:
        raise fault("must be shorter than a year, and not negative")
    return result


def _age(value: object) -> float:
    result = _duration(value)
    if not 86400 <= result <= 100 * _YEAR:
        raise fault('must be at least a day, such as "90d"')
    return result


def _duration(value: object) -> float:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)
        if not match:
            raise fault('must be a duration such as "500ms", "5s", "2m", or a number of seconds')
        return float(match[1]) * _SECONDS[match[2] or "s"]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return float("inf")
    raise fault('must be a duration such as "500ms", "5s", "2m", or a number of seconds')


def _price(value: object) -> Decimal:
    """USD for a million tokens, exactly as written. A float can only come from Python: its repr counts."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise fault("must be a price in USD per million tokens, such as 0.15")
    try:
        price = Decimal(str(value).strip())
    except ArithmeticError:
        raise fault("must be a price in USD per million tokens, such as 0.15") from None
    if not price.is_finite() or price < 0:
        raise fault("must not be negative")
    if price > 1_000_000:
        raise fault("is more than a million dollars per million tokens; prices are per million tokens")
    exponent = price.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > PICO_DIGITS:
        raise fault(f"has more than {PICO_DIGITS} decimals")
    return price


def _amount(value: object) -> Decimal:
    """USD, exactly as written, and more than none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise fault("must be an amount in USD, such as 0.001")
    try:
        amount = Decimal(str(value).strip())
    except ArithmeticError:
        raise fault("must be an amount in USD, such as 0.001") from None
    if not amount.is_finite() or not 0 < amount <= 1_000_000:
        raise fault("must be more than zero and at most a million dollars")
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > NANO_DIGITS:
        raise fault(f"has more than {NANO_DIGITS} decimals")
    return amount


def _header_text(value: str) -> str:
    # Goes into HTTP headers and metric labels as it is.
    if not re.fullmatch(_HEADER_TEXT, value):
        raise fault("must be 1 to 256 visible ASCII characters without spaces")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise fault("must be a name of at most 64 letters, digits, dots, dashes or underscores")
    return value


def _host_label(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", value.lower()):
        raise fault("must be a name of letters, digits and dashes")
    return value.lower()


def _project(value: str) -> str:
    # Old projects have their domain before them: example.com:name.
    if not re.fullmatch(r"[a-z0-9][a-z0-9.:-]{0,62}", value):
        raise fault("must be a project's id, such as my-project-123")
    return value


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        raise fault("is empty")
    if not re.fullmatch(r"[!-~]+", text):
        raise fault("has a space, a line break or a character that an HTTP header cannot carry")
    return value


def check_password(url: str) -> None:
    """Of a URL with a user before its host. With one of these characters in the password, a part of it is taken for the
    host, and told to whoever asks where that is."""
    user, at, rest = url.partition("://")[2].partition("?")[0].partition("@")
    if at and ("/" in user or "@" in rest):
        raise fault('must have "@" and "/" in a user or password written as %40 and %2F')


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address("127.0.0.1" if value == "localhost" else value))
    except ValueError:
        raise fault("must be an IP address, such as 127.0.0.1 or 0.0.0.0") from None


Duration = Annotated[float, BeforeValidator(seconds)]
DurationOrZero = Annotated[float, BeforeValidator(_seconds_or_zero)]
Age = Annotated[float, BeforeValidator(_age)]
Amount = Annotated[Decimal, BeforeValidator(_amount), WithJsonSchema(_AMOUNT_SCHEMA)]
Price = Annotated[Decimal, BeforeValidator(_price)]
Port = Annotated[int, Field(ge=1, le=65535)]
HeaderText = Annotated[
    str, AfterValidator(_header_text), WithJsonSchema({"type": "string", "pattern": f"^{_HEADER_TEXT}$"})
]
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})]
HostLabel = Annotated[str, AfterValidator(_host_label)]
Project = Annotated[str, AfterValidator(_project)]
Address = Annotated[str, AfterValidator(_address)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]


class Section(BaseModel):
    """What all parts of the configuration have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
