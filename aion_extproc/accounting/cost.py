"""What an answer costs. Integers only: pico-dollars inside, rounded once to nano-dollars at the end.

    plain  = input − cache_read − cache_write              never below zero
    spoken = output − reasoning                            never below zero
    pico   = plain·p_in + cache_read·p_read + (cache_write − 1h)·p_write + 1h·p_1h
             + spoken·p_out + reasoning·p_reasoning
    nano   = ⌊(pico + 500) / 1000⌋                         half a nano-dollar rounds up

The counts of `Usage` contain their parts, so plain input is what is left of it, and so is spoken output.
A kind of token without a rate of its own costs what the kind around it costs: 1h as any cache write, a cache
read or write as plain input, reasoning as other output. A long-context tariff goes by the *whole* input of the
request, cached tokens included, and then prices every token, as genai-prices does it
(`genai_prices.types.calc_unit_price`).
"""

from __future__ import annotations

from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import PICO_PER_NANO, Prices

NANO_PER_USD = 10**9


def cost_nano(prices: Prices, usage: Usage) -> int:
    """Nano-dollars for one answer."""
    return to_nano(cost_pico(prices, usage))


def to_nano(pico: int) -> int:
    """Pico-dollars as nano-dollars, half up."""
    return (pico + PICO_PER_NANO // 2) // PICO_PER_NANO


def cost_pico(prices: Prices, usage: Usage) -> int:
    """Pico-dollars for one answer, exact."""
    total = usage.input_tokens
    input_rate = prices.input.at(total)
    output_rate = prices.output.at(total)
    pico = usage.output_tokens * output_rate
    if prices.reasoning is not None and usage.reasoning_tokens:
        spoken = max(0, usage.output_tokens - usage.reasoning_tokens)
        pico = spoken * output_rate + usage.reasoning_tokens * prices.reasoning.at(total)
    read, write = usage.cache_read_tokens, usage.cache_write_tokens
    if not read and not write:
        return pico + total * input_rate
    # Counts come from providers: parts that exceed their whole must not lower the bill.
    hour = min(usage.cache_write_1h_tokens, write)
    read_rate = prices.cache_read.at(total) if prices.cache_read else input_rate
    write_rate = prices.cache_write.at(total) if prices.cache_write else input_rate
    hour_rate = prices.cache_write_1h.at(total) if prices.cache_write_1h else write_rate
    plain = max(0, total - read - write)
    return pico + plain * input_rate + read * read_rate + (write - hour) * write_rate + hour * hour_rate


def upper_nano(prices: Prices, input_tokens: int, output_tokens: int) -> int:
    """The most nano-dollars that a request can cost with at most so many tokens, whatever their kinds."""
    dearest_in, dearest_out = prices.input.most(input_tokens), prices.output.most(input_tokens)
    for rate in (prices.cache_read, prices.cache_write, prices.cache_write_1h):
        if rate is not None and (most := rate.most(input_tokens)) > dearest_in:
            dearest_in = most
    if prices.reasoning is not None:
        dearest_out = max(dearest_out, prices.reasoning.most(input_tokens))
    return to_nano(input_tokens * dearest_in + output_tokens * dearest_out)


def usd(nano: int) -> str:
    """Dollars as a plain decimal with 6 to 9 decimals: 3000 → "0.000003", 1 → "0.000000001"."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, rest = divmod(nano, NANO_PER_USD)
    decimals = f"{rest:09d}"
    return f"{sign}{whole}.{decimals[:6]}{decimals[6:].rstrip('0')}"
