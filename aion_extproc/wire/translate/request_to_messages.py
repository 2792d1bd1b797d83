"""A chat request of OpenAI's as a request for Anthropic's Messages API.

https://platform.openai.com/docs/api-reference/chat/create, https://platform.claude.com/docs/en/api/messages/create

What the API cannot be told is named in `Translated.dropped`, unless it asked for nothing (null, empty, the default).
What may not be lost, because the answer would be to another question, is refused: sound, files by id, tools that are
not functions, results without calls. Nothing is sent that Anthropic is known to refuse:

- Thinking goes with no temperature but 1, no top_k, no top_p under 0.95, no forced tool, no beginning of the answer,
  and by a budget only with a max_tokens of some size; thinking is given up for the last three, sampling for thinking.
- temperature is at most 1, and goes without top_p.
- Where a call cannot be forced, the model is asked for it in a system text, and tool_choice is named.
- A beginning of the answer, where the model goes on with none, is refused: without it the answer is another one, and
  where the model was chosen, one that does go on may be chosen instead.
- Where a JSON schema cannot be enforced (the model's limits, an object of any keys, json_object), the model is asked
  for it in a system text, and response_format is named as dropped: nothing guarantees it.

Whatever is refused, here or in the modules beside this one, must not be plain for screening.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.request import Request
from aion_extproc.wire.translate.names import ToolNames, digest, is_empty
from aion_extproc.wire.translate.request_to_messages_parts import Context, cache_mark, refuse
from aion_extproc.wire.translate.request_to_messages_schema import closed_schema
from aion_extproc.wire.translate.request_to_messages_tools import stubs, tool_choice, tools
from aion_extproc.wire.translate.request_to_messages_turns import Turns
from aion_extproc.wire.translate.target import MessagesTarget, Translated

_CARRIED = frozenset(
    {
        *("model", "messages", "stream", "aion_preferences", "max_tokens", "max_completion_tokens", "stop"),
        *("temperature", "top_p", "top_k", "tools", "tool_choice", "functions", "function_call", "n", "audio"),
        *("parallel_tool_calls", "response_format", "reasoning_effort", "user", "safety_identifier"),
        *("service_tier", "cache_control", "stream_options", "modalities"),
    }
)
# Fields that cannot be carried over, and the value with which they ask for nothing.
_DROPPED: dict[str, object] = {
    "frequency_penalty": 0,
    "logit_bias": None,
    "logprobs": False,
    "metadata": None,
    "moderation": None,
    "prediction": None,
    "presence_penalty": 0,
    "prompt_cache_key": None,
    "prompt_cache_options": None,
    "prompt_cache_retention": None,
    "seed": None,
    "store": False,
    "top_logprobs": 0,
    "verbosity": "medium",
    "web_search_options": None,
}
_SERVICE_TIERS = {"default": "standard_only", "priority": "auto", "fast": "auto"}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# The share of max_tokens that a budget gets, as OpenRouter divides it. Thinking counts towards max_tokens in both APIs.
_SHARES = {"low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.9, "max": 0.95}
_LEAST_BUDGET, _MOST_BUDGET = 1024, 32_000
_LEAST_ANSWER = 1024  # tokens left for the answer itself, else there is no room for thinking
_MOST_MARKS = 4  # of cache_control; Anthropic refuses more
_LONGEST_USER = 256
_PERSONAL = re.compile(r".*@.*|\+?[\d\s()-]{7,}", re.DOTALL)  # Anthropic refuses e-mail addresses and telephone numbers
_CALL_ONE = "Answer by calling one of the tools, whatever you are asked."
_CALL_THIS = "Answer by calling the tool {}, whatever you are asked."
_JSON_ONLY = "Answer with a single JSON object and nothing else: no other text, no code fence."
_BY_SCHEMA = "Answer with a single JSON value and nothing else: no other text, no code fence. It must fit this schema:"


def to_messages(request: Request, model: str, target: MessagesTarget) -> Translated:
    """The request for `model`, as it is called there. Raises RequestError only."""
    try:
        return _translated(request, model, target)
    except RecursionError:
        raise RequestError("too_deep", "The request is nested too deeply to be translated.") from None


def _translated(request: Request, model: str, target: MessagesTarget) -> Translated:
    said = request.body
    context = Context(target)
    names = ToolNames(target.longest_tool_name)
    _refuse_what_cannot_be(said)
    body: dict[str, Any] = {"model": model, "max_tokens": _max_tokens(request, target)}
    offered = tools(said, names, context)
    choice, offered = tool_choice(said, offered, names)
    turns = Turns(names, context)
    for index, message in enumerate(request.messages):
        turns.add(index, message)
    turns.finish()
    if turns.tools_used and not offered:
        offered, choice = stubs(turns.tools_used), {"type": "none"}
    prefilled = turns.messages[-1]["role"] == "assistant"
    if prefilled and not target.prefill:
        why = "is a beginning of the answer, with which the model that was chosen does not go on."
        refuse("unsupported_prefill", f"messages[{len(request.messages) - 1}]", why)
    if choice is not None and choice["type"] in ("any", "tool") and not target.forced_tools:
        choice = _asked_for(choice, turns, context)
    output = _output(said, turns, prefilled, context)
    if turns.system:
        body["system"] = turns.system
    body["messages"] = turns.messages
    if offered:
        body["tools"] = offered
    if choice is not None:
        body["tool_choice"] = choice
    forced = choice is not None and choice["type"] in ("any", "tool")
    can_think = not forced and not prefilled
    thinks = _thinking(said, body, output, can_think, turns.answers_calls_without_thinking, context)
    if output:
        body["output_config"] = output
    _sampling(said, body, thinks, context)
    _stops(said, body, context)
    _others(said, body, context)
    if request.stream:
        body["stream"] = True
    return Translated(_written(body), context.dropped, names.changed)


def _refuse_what_cannot_be(said: dict[str, Any]) -> None:
    n = said.get("n")
    if n is not None and (isinstance(n, bool) or n != 1):
        refuse("unsupported_value", "n", "must be 1: the model that was chosen gives one answer to a request.")
    modalities = said.get("modalities")
    if not is_empty(modalities) and modalities != ["text"]:
        refuse("unsupported_value", "modalities", 'must be ["text"]: the model that was chosen answers in text only.')
    if not is_empty(said.get("audio")):
        refuse("unsupported_value", "audio", "must be left out: the model that was chosen answers in text only.")


def _max_tokens(request: Request, target: MessagesTarget) -> int:
    if request.max_tokens == 0:
        name = "max_tokens" if request.body.get("max_completion_tokens") is None else "max_completion_tokens"
        refuse("invalid_value", name, "must be at least 1.")
    return request.max_tokens or target.max_tokens


def _asked_for(choice: dict[str, Any], turns: Turns, context: Context) -> dict[str, Any] | None:
    """The choice without its force; the model is asked instead, as Anthropic advises for these models."""
    context.drop("tool_choice")
    text = _CALL_ONE if choice["type"] == "any" else _CALL_THIS.format(choice["name"])
    turns.system.append({"type": "text", "text": text})
    return {"type": "auto", "disable_parallel_tool_use": True} if choice.get("disable_parallel_tool_use") else None


def _output(said: dict[str, Any], turns: Turns, prefilled: bool, context: Context) -> dict[str, Any]:
    """output_config with its format; or an instruction to the same end."""
    wanted = said.get("response_format")
    if is_empty(wanted):
        return {}
    wanted = wanted if isinstance(wanted, dict) else {}
    kind = wanted.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        context.drop("response_format")
        turns.system.append({"type": "text", "text": _JSON_ONLY})
        return {}
    described = wanted.get("json_schema") if kind == "json_schema" else None
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(described, dict) or not isinstance(schema, dict | None):
        refuse("invalid_value", "response_format", "must be of type text, json_object or json_schema, with its schema.")
    if not is_empty(described.get("description")):
        context.drop("response_format.json_schema.description")
    if schema is None:
        context.drop("response_format")
        turns.system.append({"type": "text", "text": _JSON_ONLY})
        return {}
    # The answer cannot both be held to a schema and go on from a beginning.
    closed = closed_schema(schema) if context.target.json_schema and not prefilled else None
    if closed is not None:
        return {"format": {"type": "json_schema", "schema": closed}}
    context.drop("response_format")
    turns.system.append({"type": "text", "text": f"{_BY_SCHEMA}\n{_written(schema).decode()}"})
    return {}


def _thinking(
    said: dict[str, Any],
    body: dict[str, Any],
    output: dict[str, Any],
    can_think: bool,
    unthought: bool,
    context: Context,
) -> bool:
    """Whether the model is told to think. `unthought`: the calls whose results are brought came without thinking, with
    which a budget is refused."""
    effort = said.get("reasoning_effort")
    if is_empty(effort):
        return False
    if not isinstance(effort, str) or effort not in _EFFORTS:
        refuse("invalid_value", "reasoning_effort", f"must be one of {', '.join(_EFFORTS)}.")
    target = context.target
    wants = effort not in ("none", "minimal")
    if target.thinking == "adaptive":
        return _adaptively(effort, wants, body, output, can_think, context)
    if not wants:
        return False
    limit = body["max_tokens"]
    if target.thinking != "budget" or not can_think or unthought or limit < _LEAST_BUDGET + _LEAST_ANSWER:
        context.drop("reasoning_effort")
        return False
    budget = min(max(int(limit * _SHARES[effort]), _LEAST_BUDGET), _MOST_BUDGET, limit - _LEAST_ANSWER)
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def _adaptively(
    effort: str, wants: bool, body: dict[str, Any], output: dict[str, Any], can_think: bool, context: Context
) -> bool:
    """For a model that thinks as it sees fit. Most of them do so unless they are told not to."""
    target = context.target
    if not wants and target.unthinking:
        body["thinking"] = {"type": target.unthinking}
        if effort == "none" and target.unthinking == "disabled":
            return False  # which is all that was asked for
    elif wants and can_think:
        body["thinking"] = {"type": "adaptive"}
    takes = {"xhigh": target.xhigh, "max": target.max_effort}
    sent = effort if takes.get(effort, wants) else "high" if wants else "low"
    if target.effort:
        output["effort"] = sent
    if sent != effort or not can_think or not target.effort:
        context.drop("reasoning_effort")
    return wants and can_think


def _sampling(said: dict[str, Any], body: dict[str, Any], thinks: bool, context: Context) -> None:
    temperature = _number(said, "temperature", 2)
    top_p = _number(said, "top_p", 1)
    top_k = said.get("top_k")
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int)):
        refuse("invalid_type", "top_k", "must be an integer.")
    takes = context.target.sampling
    if temperature is not None and temperature != 1:
        if takes and not thinks and temperature < 1:
            body["temperature"] = temperature
        else:
            context.drop("temperature")  # above 1: 1 is what it is then
    if top_p is not None and top_p != 1:
        if takes and "temperature" not in body and (not thinks or top_p >= 0.95):
            body["top_p"] = top_p
        else:
            context.drop("top_p")
    if top_k is not None and top_k > 0:  # 0 and -1 are how other servers say: all of them
        if takes and not thinks and top_k < 1 << 31:
            body["top_k"] = top_k
        else:
            context.drop("top_k")


def _number(said: dict[str, Any], name: str, most: int) -> float | None:
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        refuse("invalid_value", name, f"must be a number from 0 to {most}.")
    return value


def _stops(said: dict[str, Any], body: dict[str, Any], context: Context) -> None:
    stops = said.get("stop")
    if is_empty(stops):
        return
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        refuse("invalid_type", "stop", "must be a string or a list of strings.")
    kept = [stop for stop in stops if stop.strip()]  # Anthropic refuses those of white space
    if len(kept) < len(stops):
        context.drop("stop")
    if kept:
        body["stop_sequences"] = kept


def _others(said: dict[str, Any], body: dict[str, Any], context: Context) -> None:
    if (user := _user(said)) is not None:
        body["metadata"] = {"user_id": user}
    tier = said.get("service_tier")
    if isinstance(tier, str) and tier in _SERVICE_TIERS:
        body["service_tier"] = _SERVICE_TIERS[tier]
    elif not is_empty(tier) and tier != "auto":
        context.drop("service_tier")
    mark = said.get("cache_control")
    kept = cache_mark(mark) if context.target.cache_control else None
    if kept is not None:
        body["cache_control"] = kept
    elif not is_empty(mark):
        context.drop("cache_control")
    for block in context.cached[: -(_MOST_MARKS - (kept is not None))]:
        block.pop("cache_control", None)
        context.drop("messages[].content[].cache_control")
    for name, nothing in _DROPPED.items():
        value = said.get(name)
        if not is_empty(value) and value != nothing:
            context.drop(name)
    options = said.get("stream_options")
    if isinstance(options, dict):  # no padding is ever added, so that none is wanted is as good as told
        left = {key: value for key, value in options.items() if value is not False}
        context.drop_others(left, ("include_usage",), "stream_options.")
    context.drop_others(said, _CARRIED | _DROPPED.keys())


def _user(said: dict[str, Any]) -> str | None:
    """The end user's id. One that Anthropic would refuse is hashed: it is as good for telling users apart."""
    for name in ("safety_identifier", "user"):
        user = said.get(name)
        if is_empty(user):
            continue
        if not isinstance(user, str):
            refuse("invalid_type", name, "must be a string.")
        if len(user) > _LONGEST_USER or _PERSONAL.fullmatch(user):
            return digest(user)
        return user
    return None


def _written(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        pass  # half a surrogate pair, an integer of more than 64 bits, or deeper than orjson writes
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_unwrapped, allow_nan=False)
    except ValueError:
        raise RequestError("invalid_value", "The request has a number that is too large.") from None
    return text.encode("utf-8", "replace")  # half a pair becomes "?": Anthropic refuses a request with it


def _unwrapped(value: object) -> object:
    if isinstance(value, orjson.Fragment):
        return json.loads(orjson.dumps(value))
    raise TypeError(type(value).__name__)
