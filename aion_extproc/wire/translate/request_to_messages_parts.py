"""What stands inside a chat message, as content blocks of Anthropic's: texts, images, documents, earlier thinking."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.translate.names import Dropped, is_empty
from aion_extproc.wire.translate.target import MessagesTarget

Block = dict[str, Any]

_LONGEST_TITLE = 200
_LONGEST_QUOTE = 80  # characters of the client's own that an error repeats
_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
# How the base64 of each begins. Anthropic refuses an image whose bytes are not what they are said to be, and clients
# often guess.
_BEGINNINGS = {"/9j/": _IMAGES[0], "iVBORw0KGgo": _IMAGES[1], "R0lGOD": _IMAGES[2], "UklGR": _IMAGES[3]}
_PDF = "application/pdf"
_PDF_BEGINNING = "JVBERi"


class Context(Dropped):
    """What is collected while a request is translated."""

    def __init__(self, target: MessagesTarget) -> None:
        super().__init__()
        self.target = target
        self.cached: list[Block] = []  # the blocks with cache_control, in the prompt's order

    def keep_cache_control(self, block: Block, said: Mapping[str, Any], name: str) -> None:
        """Carry over the mark that a prompt is to be cached up to here. `name` is where it stood."""
        mark = said.get("cache_control")
        if is_empty(mark):
            return
        kept = cache_mark(mark) if self.target.cache_control else None
        if kept is None:
            self.drop(name)
            return
        block["cache_control"] = kept
        self.cached.append(block)


def cache_mark(mark: object) -> dict[str, str] | None:
    """A legal cache_control; None: it is none."""
    if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
        return None
    ttl = mark.get("ttl")
    if ttl is None:
        return {"type": "ephemeral"}
    return {"type": "ephemeral", "ttl": ttl} if ttl in ("5m", "1h") else None


def refuse(code: str, where: str, message: str) -> NoReturn:
    raise RequestError(code, f"{where} {message}", param=where)


def quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…")


def text_block(text: str) -> list[Block]:
    """A list of none or one: Anthropic refuses text blocks that are empty or nothing but white space."""
    return [{"type": "text", "text": text}] if text and not text.isspace() else []


def blocks(content: object, where: str, context: Context, *, only_text: str = "") -> list[Block]:
    """A message's content. `only_text` is whose content may not be anything else: Anthropic takes images and documents
    from the user and from tools."""
    if isinstance(content, str):
        return text_block(content)
    found: list[Block] = []
    for index, part in enumerate(content if isinstance(content, list) else ()):
        found.extend(_part(part, f"{where}[{index}]", context, only_text))
    return found


def _part(part: dict[str, Any], where: str, context: Context, only_text: str) -> list[Block]:
    kind = part["type"]
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            refuse("invalid_type", f"{where}.{kind}", "must be a string.")
        found = text_block(text)
    elif kind not in ("image_url", "file"):
        what = "sound" if kind == "input_audio" else f"a part of type {quoted(kind)}"
        refuse("unsupported_content", where, f"is {what}, which the model that was chosen cannot be sent.")
    elif only_text:
        refuse("unsupported_content", where, f"must be text: {only_text} cannot hold images or files here.")
    else:
        found = [_image(part, where, context) if kind == "image_url" else _file(part, where, context)]
    for block in found:
        context.keep_cache_control(block, part, "messages[].content[].cache_control")
    context.drop_others(part, ("type", kind, "cache_control"), "messages[].content[].")
    return found


def _image(part: dict[str, Any], where: str, context: Context) -> Block:
    said = part.get("image_url")
    where = f"{where}.image_url"
    if isinstance(said, dict):
        if said.get("detail") not in (None, "auto"):
            context.drop("messages[].content[].image_url.detail")
        context.drop_others(said, ("url", "detail"), "messages[].content[].image_url.")
        said, where = said.get("url"), f"{where}.url"
    if not isinstance(said, str) or not said:
        refuse("invalid_type", where, "must be a string: a data URL, or a web address.")
    if is_web_address(said):
        return {"type": "image", "source": _address(said, where, context)}
    kind, data = _data_url(said, where)
    kind = next((real for start, real in _BEGINNINGS.items() if data.startswith(start)), kind)
    if kind not in _IMAGES:
        refuse("unsupported_content", where, f"must be a JPEG, PNG, GIF or WebP image, not {quoted(kind)}.")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _file(part: dict[str, Any], where: str, context: Context) -> Block:
    said = part.get("file")
    where = f"{where}.file"
    if not isinstance(said, dict):
        refuse("invalid_type", where, "must be an object.")
    context.drop_others(said, ("file_data", "file_id", "filename"), "messages[].content[].file.")
    data = said.get("file_data")
    if not isinstance(data, str) or not data:
        refuse("unsupported_content", where, "must have its content in file_data: files by id cannot be sent on.")
    block: Block = {"type": "document", "source": _document(data, f"{where}.file_data", context)}
    title = said.get("filename")
    if isinstance(title, str) and title.strip():
        block["title"] = title[:_LONGEST_TITLE]
    return block


def _document(data: str, where: str, context: Context) -> Block:
    if is_web_address(data):
        return _address(data, where, context)
    kind, data = _data_url(data, where) if data[:5].lower() == "data:" else ("", data)
    if data.startswith(_PDF_BEGINNING) or kind == _PDF:
        return {"type": "base64", "media_type": _PDF, "data": data}
    if not kind.startswith("text/") and kind != "application/json":
        refuse("unsupported_content", where, "must be a PDF or a text.")
    try:
        text = base64.b64decode(data).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        refuse("invalid_value", where, "must be the base64 of UTF-8 text.")
    if not text.strip():
        refuse("invalid_value", where, "must hold some text.")
    return {"type": "text", "media_type": "text/plain", "data": text}


def is_web_address(text: str) -> bool:
    return text[:8].lower().startswith(("https://", "http://"))


def _address(url: str, where: str, context: Context) -> Block:
    if not context.target.image_urls:
        refuse(
            "unsupported_content", where, "is a web address, and the model that was chosen fetches none: send the data."
        )
    return {"type": "url", "url": url}


def _data_url(url: str, where: str) -> tuple[str, str]:
    """Media type in lower case, base64 data."""
    head = _DATA_URL.match(url)
    if head is None or ";base64" not in head[2].lower():
        refuse("invalid_value", where, "must be a web address or a data URL in base64.")
    data = url[head.end() :]
    if any(space in data for space in " \n\r\t"):
        data = "".join(data.split())
    if not data or not data.isascii():
        refuse("invalid_value", where, "must hold data in base64.")
    kind = head[1].strip().lower()
    return "image/jpeg" if kind == "image/jpg" else kind, data


def thinking(message: Mapping[str, Any], context: Context) -> list[Block]:
    """The thinking that an assistant turn gives back, as its blocks were: OpenRouter's `reasoning_details` or LiteLLM's
    `thinking_blocks`. Anthropic takes only what it has signed; plain reasoning text cannot be given back."""
    signed: list[Block] = []
    for name, read in (("reasoning_details", _details), ("thinking_blocks", _thinking_blocks)):
        said = message.get(name)
        if is_empty(said):
            continue
        found, whole = read(said) if context.target.thinking and isinstance(said, list) else ([], False)
        if not whole:
            context.drop(f"messages[].{name}")
        signed = signed or found
    for name in ("reasoning_content", "reasoning"):
        if not signed and not is_empty(message.get(name)):
            context.drop(f"messages[].{name}")
    return signed


def _details(said: list[Any]) -> tuple[list[Block], bool]:
    """The blocks, and whether everything was carried over. A stream's entries are pieces of one block as long as their
    index is the same and no signature has come."""
    found: list[Block] = []
    whole = True
    text: list[str] = []
    index: object = None
    for detail in said:
        if not isinstance(detail, dict):
            whole = False
            continue
        format = detail.get("format")
        # Another provider's signature is not this one's.
        own = format is None or (isinstance(format, str) and format.startswith("anthropic"))
        kind, signature = detail.get("type"), detail.get("signature")
        if text and (kind != "reasoning.text" or detail.get("index") != index):
            text, whole = [], False
        if own and kind == "reasoning.text" and isinstance(piece := detail.get("text") or "", str):
            text.append(piece)
            index = detail.get("index")
            if isinstance(signature, str) and signature:
                found.append({"type": "thinking", "thinking": "".join(text), "signature": signature})
                text = []
        elif own and kind == "reasoning.encrypted" and isinstance(data := detail.get("data"), str) and data:
            found.append({"type": "redacted_thinking", "data": data})
        else:
            whole = False
    return found, whole and not text


def _thinking_blocks(said: list[Any]) -> tuple[list[Block], bool]:
    found: list[Block] = []
    for block in said:
        if not isinstance(block, dict):
            continue
        text, signature, data = block.get("thinking"), block.get("signature"), block.get("data")
        if block.get("type") == "thinking" and isinstance(text, str) and isinstance(signature, str) and signature:
            found.append({"type": "thinking", "thinking": text, "signature": signature})
        elif block.get("type") == "redacted_thinking" and isinstance(data, str) and data:
            found.append({"type": "redacted_thinking", "data": data})
    return found, len(found) == len(said)
