"""Blocks of a Messages request as parts of a chat message: texts, images, documents, thinking, and what Anthropic's own
servers did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.translate.names import Dropped, ToolNames
from aion_extproc.wire.translate.odd_json import dumps
from aion_extproc.wire.translate.target import ChatTarget

Part = dict[str, Any]

# Members of a server tool's result that are not for reading.
_UNREADABLE = frozenset(
    {
        *("type", "tool_use_id", "id", "file_id", "caller", "cache_control", "citations", "signature", "media_type"),
        *("encrypted_content", "encrypted_stdout", "encrypted_index"),
    }
)


class Context(Dropped):
    """What is collected while a request is translated."""

    def __init__(self, target: ChatTarget) -> None:
        super().__init__()
        self.target = target
        self.names = ToolNames(target.longest_tool_name)

    def mark(self, part: Part, block: dict[str, Any]) -> None:
        """Carry over the mark that a prompt is to be cached up to here. An empty part stands for what has no place."""
        control = block.get("cache_control")
        if control and isinstance(control, dict) and self.target.cache_control and part:
            part["cache_control"] = control
        elif control:
            self.drop("cache_control")


def compact(value: object) -> bytes:
    """As JSON without white space. Raises RequestError for what no parser of the target's would read."""
    try:
        return dumps(value)
    except ValueError:
        raise RequestError("invalid_request", "The request is nested too deeply to be translated.") from None


def numbered(content: Any) -> Iterator[tuple[int, Any]]:
    """The blocks of a content, which may be a string."""
    return enumerate([{"type": "text", "text": content}] if isinstance(content, str) else content)


def text_part(text: str) -> list[Part]:
    """A list of none or one."""
    return [{"type": "text", "text": text}] if text else []


def texts(content: Any, where: str, context: Context) -> list[Part]:
    """The parts of a content that may hold nothing but text."""
    for index, block in numbered(content):
        if not isinstance(block, dict) or block.get("type") != "text":
            wrong(f"{where}[{index}]", "a text block")
    return [part for index, block in numbered(content) for part in parts(block, f"{where}[{index}]", context)]


def parts(block: object, where: str, context: Context) -> list[Part]:
    """A block as parts of a chat message; none for an empty text."""
    if not isinstance(block, dict) or not isinstance(kind := block.get("type"), str):
        wrong(where, "an object with a type")
    cites = block.get("citations")
    if cites and not (isinstance(cites, dict) and not cites.get("enabled")):
        context.drop("messages[].citations")
    if kind == "text":
        found = text_part(string_in(block, "text", where))
    elif kind == "image":
        found = [_image(block, where, context)]
    elif kind == "document":
        found = _document(block, where, context)
    elif kind == "search_result":
        head = f"{string_in(block, 'title', where)}\n{string_in(block, 'source', where)}"
        found = text_part(head) + texts(_list_in(block, "content", where), f"{where}.content", context)
    elif kind == "tool_reference":
        found = text_part(f"The tool {string_in(block, 'tool_name', where)} is available.")
    elif kind == "compaction" and not (block.get("encrypted_content") and not block.get("content")):
        found = text_part(string_in(block, "content", where)) if block.get("content") is not None else []
    else:
        found = _server_side(block, kind, where, context)
    if found:
        context.mark(found[-1], block)
    return found


def _server_side(block: dict[str, Any], kind: str, where: str, context: Context) -> list[Part]:
    """What a tool that Anthropic runs was asked and has answered, as text: what the model can read of it."""
    if kind in ("server_tool_use", "mcp_tool_use"):
        said = compact(block.get("input")).decode()
        return text_part(f"[Called {string_in(block, 'name', where)} with {said}]")
    if kind == "browser_state":
        return text_part(compact({key: block.get(key) for key in ("tabs", "state_changes")}).decode())
    if not kind.endswith("_tool_result") and kind != "mcp_tool_listing":
        unsupported(where, "A block of this type")
    found, whole = _readable(block)
    if not whole:
        context.drop_unknown(kind, "messages[].")
    return text_part("\n".join([f"[{kind}]", *found]))


def _readable(block: dict[str, Any]) -> tuple[list[str], bool]:
    """The texts in a block of any shape, in order, and whether they are all that is in it."""
    found: list[str] = []
    whole = True
    stack: list[object] = [block]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            found.append(node)
        elif isinstance(node, list):
            stack.extend(reversed(node))
        elif isinstance(node, dict) and node.get("type") == "base64":
            whole = False
        elif isinstance(node, dict):
            stack.extend(node[key] for key in reversed(node) if key not in _UNREADABLE)
    return found, whole


def _image(block: dict[str, Any], where: str, context: Context) -> Part:
    source = object_in(block, "source", where)
    if block.get("transformations"):
        context.drop("messages[].transformations")
    kind, where = source.get("type"), f"{where}.source"
    if kind == "base64":
        url = _data_url(source, where)
    elif kind == "url" and context.target.image_urls:
        url = string_in(source, "url", where)
    else:
        unsupported(where, "An image by URL" if kind == "url" else "An image that is not base64 or a URL")
    return {"type": "image_url", "image_url": {"url": url}}


def _document(block: dict[str, Any], where: str, context: Context) -> list[Part]:
    source = object_in(block, "source", where)
    title = block.get("title") if isinstance(block.get("title"), str) else ""
    about = block.get("context") if isinstance(block.get("context"), str) else ""
    kind, where = source.get("type"), f"{where}.source"
    if kind == "base64" and context.target.files:
        name = title or "document"
        name = name if name.lower().endswith(".pdf") else f"{name}.pdf"
        file = {"filename": name, "file_data": _data_url(source, where)}
        return [*text_part(about or ""), {"type": "file", "file": file}]
    head = "\n".join(filter(None, (title, about)))
    if kind == "text":
        return text_part("\n\n".join(filter(None, (head, string_in(source, "data", where)))))
    content = source.get("content")
    if kind != "content" or not isinstance(content, str | list):
        unsupported(where, "A document by reference" if context.target.files else "A document that is not text")
    found = text_part(head)
    for index, item in numbered(content):
        if not isinstance(item, dict) or item.get("type") not in ("text", "image"):
            wrong(f"{where}.content[{index}]", "a text or an image")
        found.extend(parts(item, f"{where}.content[{index}]", context))
    return found


def _data_url(source: dict[str, Any], where: str) -> str:
    return f"data:{string_in(source, 'media_type', where)};base64,{string_in(source, 'data', where)}"


def thought(block: dict[str, Any], where: str, context: Context) -> Iterator[Part]:
    """Thinking in OpenRouter's form: https://openrouter.ai/docs/use-cases/reasoning-tokens."""
    kind, member = block["type"], context.target.reasoning
    own = "thinking" if kind == "thinking" else "data"
    text, signature = string_in(block, own, where), block.get("signature")
    if not member or (kind != "thinking" and member != "reasoning_details"):
        context.drop(f"messages[].{kind}")
    elif kind != "thinking":
        yield {"type": "reasoning.encrypted", "data": text}
    elif isinstance(signature, str) and signature and member == "reasoning_details":
        yield {"type": "reasoning.text", "text": text, "signature": signature}
    elif text:
        yield {"type": "reasoning.text", "text": text}


def object_in(holder: dict[str, Any], name: str, where: str = "") -> dict[str, Any]:
    """A member that must be an object; {} for none."""
    value = holder.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        wrong(f"{where}.{name}" if where else name, "an object")
    return value


def _list_in(holder: dict[str, Any], name: str, where: str) -> list[Any]:
    value = holder.get(name)
    if not isinstance(value, list):
        wrong(f"{where}.{name}", "a list")
    return value


def string_in(holder: dict[str, Any], name: str, where: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str):
        wrong(f"{where}.{name}", "a string")
    return value


def wrong(where: str, wanted: str) -> NoReturn:
    raise RequestError("invalid_type", f"{where} must be {wanted}.", param=where)


def unsupported(where: str, what: str) -> NoReturn:
    message = f"{where}: {what} cannot be passed on to the model that was chosen."
    raise RequestError("unsupported_content", message, param=where)
