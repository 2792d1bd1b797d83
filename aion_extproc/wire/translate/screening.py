"""Whether a request is certain to be written for another model: a look at its shape, at a tenth of what a translation
costs. For the attempts that stand by: to know by translating would mean to translate for each of them.

Plain is what has nothing in it that a translation refuses, whatever the target. What is not plain may be translated all
the same: whoever needs to know tries. So these checks may be stricter than the translations but never laxer: what
request_to_messages*.py and request_to_chat*.py refuse must not be plain. Types are compared, not asked for: parsers
make no subclasses, and every request is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import orjson

from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import Request
from aion_extproc.wire.translate.names import LEGAL

_LONGEST_NAME = 64  # of a tool; no server's limit is lower
_COMBINED = frozenset({"anyOf", "oneOf", "allOf"})
# How the data URL of an image or a file begins that all take.
_IMAGES = tuple(f"data:image/{kind};base64," for kind in ("png", "jpeg", "gif", "webp"))
_PDF = "data:application/pdf;base64,"
_NONE: dict[str, object] = {}
_NO_NAMES: list[str] = []
# Where the text of a block in an assistant turn is.
_TEXT_IN = {"text": "text", "thinking": "thinking", "redacted_thinking": "data"}


class _OddError(ValueError):
    """Not plain."""


def is_plain(request: Request, endpoint: Endpoint) -> bool:
    """Whether the request can be written for this endpoint, its own or that of the other format, whatever model of
    whatever server it is for. False: it may be refused."""
    if endpoint is request.endpoint:
        # Only a beginning of the answer is refused, by models that go on with none.
        return endpoint.format is Format.OPENAI or request.messages[-1]["role"] != "assistant"
    try:
        if request.format is Format.ANTHROPIC:
            _check_messages(request)
        else:
            _check_chat(request)
    except (KeyError, TypeError, ValueError):  # something is missing, or not of the usual type
        return False
    return True


def _check_chat(request: Request) -> None:
    body, messages = request.body, request.messages
    if request.max_tokens == 0 or not _are_plain(_CHAT, body):
        raise _OddError
    names = _chat_tools(body.get("tools") or [])
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        if choice["type"] != "function" or choice["function"]["name"] not in names:
            raise _OddError
    elif choice not in (None, "auto", "none") and not (choice == "required" and names):
        raise _OddError
    carried: list[object] = [body.get("tools"), body.get("response_format")]
    _chat_turns(messages, carried)
    # The last word must be the user's: an answer that is begun may be refused, and so may no word at all.
    if messages[-1]["role"] != "tool" and not (messages[-1]["role"] == "user" and _says(messages[-1]["content"])):
        raise _OddError
    _check_writable(carried)


def _chat_tools(tools: list[Any]) -> list[str]:
    """Their names."""
    functions = [tool["function"] for tool in tools if tool["type"] == "function"]
    names = [function["name"] for function in functions]
    for function in functions:
        if type(function.get("description", "")) is not str:
            raise _OddError
        if "parameters" in function:
            said = function["parameters"]
            if said["type"] != "object" or type(said.get("properties", _NONE)) is not dict:
                raise _OddError
            if not _COMBINED.isdisjoint(said) or type(required := said.get("required", _NO_NAMES)) is not list:
                raise _OddError
            "".join(required)  # TypeError: not all of them are strings
    # Those that have to be changed may become equal.
    legal = all(names) and LEGAL.fullmatch("".join(names)) and max(map(len, names)) <= _LONGEST_NAME
    if (names and not legal) or len(set(names)) != len(tools):
        raise _OddError
    return names


def _chat_turns(messages: list[dict[str, Any]], carried: list[object]) -> None:
    """`carried`: what will be carried over as it is."""
    waiting: list[str] = []  # ids of the calls whose results are to come
    for message in messages:
        role, content = message["role"], message.get("content")
        if role == "tool":
            waiting.remove(message["tool_call_id"])
        elif role == "assistant":
            if waiting or message.get("audio") is not None or message.get("refusal") is not None:
                raise _OddError
            if message.get("function_call") is not None:
                raise _OddError
            if (calls := message.get("tool_calls")) is not None:
                waiting = _chat_calls(calls, carried)
        elif role not in ("user", "system", "developer"):
            raise _OddError
        if type(content) is list:
            for part in content:
                kind = part["type"]
                if kind == "text":
                    if type(part["text"]) is not str:
                        raise _OddError
                elif role not in ("user", "tool") or not (
                    (kind == "image_url" and _is_data(part["image_url"]["url"], _IMAGES))
                    or (kind == "file" and _is_data(part["file"]["file_data"], _PDF))
                ):
                    raise _OddError
    if waiting:
        raise _OddError


def _chat_calls(calls: list[Any], carried: list[object]) -> list[str]:
    """Their ids."""
    ids = []
    for call in calls:
        id, function = call["id"], call["function"]
        name, arguments = function["name"], function["arguments"]
        if call["type"] != "function" or type(id) is not str or type(name) is not str or not name:
            raise _OddError
        if arguments != "":
            carried.append(orjson.loads(arguments))  # what orjson does not read, another parser may
        ids.append(id)
    return ids


def _is_data(url: object, heads: str | tuple[str, ...]) -> bool:
    """Whether it is a data URL of that kind with some data. Nothing looks through it: it may be long."""
    if type(url) is not str or not url.startswith(heads):
        return False
    return url.isascii() and not url[-1].isspace() and url[-1] != ","


def _says(content: object) -> bool:
    """Whether there is more in it than white space."""
    if isinstance(content, list):
        return any(part["type"] != "text" or _says(part["text"]) for part in content)
    return isinstance(content, str) and content != "" and not content.isspace()


def _check_messages(request: Request) -> None:
    body = request.body
    if not _are_plain(_MESSAGES, body):
        raise _OddError
    names = _tools(body.get("tools") or [])
    if (choice := body.get("tool_choice")) is not None:
        kind = choice["type"]
        if kind not in ("auto", "any", "none") and not (kind == "tool" and choice["name"] in names):
            raise _OddError
    carried: list[object] = [body.get("tools"), body.get("output_config"), body.get("output_format")]
    if isinstance(system := body.get("system"), list):
        _only_texts(system, carried)
    _turns(request.messages, carried)
    _check_writable(carried)


def _tools(tools: list[Any]) -> list[str]:
    """The names of those that have a schema."""
    names: list[str] = []
    for tool in tools:
        if "input_schema" in tool:
            name = tool["name"]
            if type(name) is not str or not name or type(tool["input_schema"]) is not dict:
                raise _OddError
            if type(tool.get("description", "")) is not str:
                raise _OddError
            names.append(name)
        elif type(tool["type"]) is not str or tool["type"] == "custom":
            raise _OddError
    return names


def _turns(messages: list[dict[str, Any]], carried: list[object]) -> None:
    calls: set[str] = set()  # ids of those in the last assistant turn
    is_asked = False  # there is a user turn
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "user":
            is_asked = True
            if type(content) is not str:
                _user_turn(content, calls, carried)
        elif role == "assistant":
            calls = set() if type(content) is str else _assistant_turn(content, carried)
        elif role == "system" and message.get("output_config") is None:
            if type(content) is not str:
                _only_texts(content, carried)
        else:
            raise _OddError
    if not is_asked:  # perhaps none of it can be said
        raise _OddError


def _user_turn(content: list[Any], calls: Container[str], carried: list[object]) -> None:
    """`calls`: ids of those whose results may be in it."""
    for block in content:
        kind = block["type"]
        if kind == "text":
            if type(block["text"]) is not str:
                raise _OddError
        elif kind == "tool_result":
            if block["tool_use_id"] not in calls:
                raise _OddError
            inside = block.get("content", "")
            if type(inside) is list:
                _user_turn(inside, (), carried)
            elif type(inside) is not str:
                raise _OddError
        elif kind == "image":
            source = block["source"]
            if source["type"] != "base64" or type(source["media_type"]) is not str or type(source["data"]) is not str:
                raise _OddError
        else:
            raise _OddError
        if "cache_control" in block:
            carried.append(block["cache_control"])


def _assistant_turn(content: list[Any], carried: list[object]) -> set[str]:
    """The ids of the calls."""
    calls: set[str] = set()
    for block in content:
        kind = block["type"]
        if kind == "tool_use":
            id, name, given = block["id"], block["name"], block["input"]
            if type(id) is not str or not id or type(name) is not str or not name or type(given) is not dict:
                raise _OddError
            calls.add(id)
            carried.append(given)
        elif type(block[_TEXT_IN[kind]]) is not str:
            raise _OddError
        if "cache_control" in block:
            carried.append(block["cache_control"])
    return calls


def _only_texts(content: list[Any], carried: list[object]) -> None:
    for block in content:
        if block["type"] != "text" or type(block["text"]) is not str:
            raise _OddError
        if "cache_control" in block:
            carried.append(block["cache_control"])


def _check_writable(carried: list[object]) -> None:
    """Raises TypeError where JSON of any shape may be too deep, or holds half a surrogate pair. A translation takes
    about four times the levels that orjson does."""
    orjson.dumps(carried)


def _are_plain(checks: Mapping[str, Callable[[Any], bool]], body: Mapping[str, Any]) -> bool:
    """Whether the members of the body that are to be checked pass."""
    return all([checks[name](body[name]) for name in checks.keys() & body.keys()])


def _is_none(value: object) -> bool:
    return value is None


def _is_string(value: object) -> bool:
    return value is None or isinstance(value, str)


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all([isinstance(one, str) for one in value])


def _is_number(value: Any, most: float) -> bool:
    return value is None or (not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= most)


def _is_object(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _is_response_format(value: Any) -> bool:
    if value is None or value["type"] in ("text", "json_object"):
        return True
    return value["type"] == "json_schema" and isinstance(value["json_schema"]["schema"], dict)


def _is_output_format(value: Any) -> bool:
    return value is None or (value["type"] == "json_schema" and isinstance(value["schema"], dict))


def _is_output_config(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or value.get("effort") not in (None, "low", "medium", "high", "xhigh", "max"):
        return False
    return _is_output_format(value.get("format"))


def _is_thinking(value: Any) -> bool:
    if value is None or value["type"] in ("adaptive", "between_tools", "disabled"):
        return True
    return value["type"] == "enabled" and type(value["budget_tokens"]) is int


# The members whose value may be refused. All others are carried over or dropped, or are looked at above.
_CHAT: Mapping[str, Callable[[Any], bool]] = {
    "n": lambda value: value is None or (value == 1 and value is not True),
    "modalities": lambda value: value in (None, ["text"]),
    "audio": _is_none,
    "functions": _is_none,
    "function_call": _is_none,
    "parallel_tool_calls": lambda value: value is None or isinstance(value, bool),
    "reasoning_effort": lambda value: value in (None, "none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "temperature": lambda value: _is_number(value, 2),
    "top_p": lambda value: _is_number(value, 1),
    "top_k": lambda value: value is None or type(value) is int,
    "stop": lambda value: _is_string(value) or _are_strings(value),
    "user": _is_string,
    "safety_identifier": _is_string,
    "response_format": _is_response_format,
}
_MESSAGES: Mapping[str, Callable[[Any], bool]] = {
    "compaction": _is_none,
    "thread": _is_none,
    "metadata": _is_object,
    "output_config": _is_output_config,
    "output_format": _is_output_format,
    "stop_sequences": lambda value: value is None or _are_strings(value),
    "temperature": lambda value: _is_number(value, 2),
    "top_p": lambda value: _is_number(value, 2),
    "thinking": _is_thinking,
}
