"""From a file to `Settings`: read, put the environment in, validate, say all that is wrong and where.

YAML is composed to nodes, not constructed: tags and duplicate keys are refused, every value keeps its line,
and a number keeps its digits (0.15 becomes Decimal("0.15"), never the nearest binary float).
"""

from __future__ import annotations

import difflib
import os
import re
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from aion_extproc.config.errors import ConfigError, Problem
from aion_extproc.config.schema import Settings

Path_ = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_VARIABLE = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::-([^}]*))?\}|(\{))", re.ASCII)

# What YAML takes for the name of an alias or a tag may be a secret that begins with * or !. A token's is <…>.
_OWN_WORDS = re.compile(r" '[^'<]{2,}'")


def load(path: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> Settings:
    """The settings in a file. ConfigError: it cannot be read or used; the text names file, line and key."""
    source = os.fspath(path)
    try:
        text = Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(source, [Problem(0, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError(source, [Problem(0, "", "is not UTF-8 text")]) from None
    return loads(text, source, env)


def loads(text: str, source: str, env: Mapping[str, str] | None = None) -> Settings:
    """The settings in a text; `source` names it in errors, `env` (os.environ) is what `${VAR}` comes from."""
    document = _Document(os.environ if env is None else env)
    data = document.read(text)
    if document.problems:
        raise ConfigError(source, document.problems)
    settings, problems = None, list(document.unset)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems += _problems(error, document.lines)
    # Raised out here, where pydantic's error and the inputs it carries are not the context of ours.
    if settings is None or problems:
        raise ConfigError(source, problems)
    return settings


class _Document:
    """A YAML text as plain data, with the line of every key and what was wrong with it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.lines: dict[Path_, int] = {(): 1}
        self.problems: list[Problem] = []  # the text itself: nothing can be validated
        self.unset: list[Problem] = []  # variables: the rest is validated all the same

    def read(self, text: str) -> Any:
        try:
            nodes = list(YAML(typ="rt", pure=True).compose_all(text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 0
            flow = "${" in "".join(text.splitlines()[line - 1 : line])
            hint = '; inside { } a "${VARIABLE}" must be in quotes' if flow else ""
            problem = _OWN_WORDS.sub("", str(error.problem or error.context))
            self._wrong(line, (), f"is not valid YAML: {problem}{hint}")
            return None
        except RecursionError:
            self._wrong(0, (), "is nested too deeply")
            return None
        except YAMLError as error:
            self._wrong(0, (), f"is not valid YAML: {type(error).__name__}")
            return None
        if len(nodes) > 1:
            self._wrong(nodes[1].start_mark.line + 1, (), "holds several documents; only one is read")
            return None
        if not nodes or nodes[0] is None:
            return {}
        try:
            data = self._value(nodes[0], (), frozenset())
        except RecursionError:
            self._wrong(0, (), "is nested too deeply")
            return None
        if data is None:
            return {}
        if not isinstance(data, dict):
            self._wrong(1, (), "must be a mapping of sections: gateway, providers, auth, routing, telemetry")
        return data

    def _wrong(self, line: int, at: Path_, message: str) -> None:
        self.problems.append(Problem(line, dotted(at), message))

    def _value(self, node: Node, at: Path_, inside: frozenset[int], raw: bool = False) -> Any:
        """`inside`: the nodes around this one, against aliases to itself; `raw`: leave variables alone."""
        line = node.start_mark.line + 1
        if id(node) in inside:
            self._wrong(line, at, "refers to itself")
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node, at, raw)
        if not str(node.tag).startswith(_TAG) or str(node.tag).removeprefix(_TAG) not in ("map", "seq"):
            self._wrong(line, at, "has a tag; tags are not read")
            return None
        inside |= {id(node)}
        if isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*at, index)] = item.start_mark.line + 1
            return [self._value(item, (*at, index), inside, raw) for index, item in enumerate(node.value)]
        assert isinstance(node, MappingNode)
        return self._mapping(node, at, inside, raw)

    def _mapping(self, node: MappingNode, at: Path_, inside: frozenset[int], raw: bool) -> dict[str, Any]:
        entries: dict[str, tuple[int, Node]] = {}
        merged: list[tuple[str, int, Node]] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._wrong(line, at, "has a key that is not a plain word")
            elif key_node.value == "<<":
                merged += self._merged(value_node, at)
            elif key_node.value in entries:
                first = entries[key_node.value][0]
                self._wrong(line, (*at, key_node.value), f"is given twice; the first is on line {first}")
            else:
                entries[key_node.value] = (line, value_node)
        for key, line, value_node in merged:
            entries.setdefault(key, (line, value_node))
        for key, (line, _) in entries.items():
            self.lines[(*at, key)] = line
        if len(at) == 2 and at[0] == "providers" and "enabled" in entries:
            # A provider that is switched off may name variables that are not set.
            enabled = self._value(entries["enabled"][1], (*at, "enabled"), inside)
            raw = enabled is False or (isinstance(enabled, str) and enabled.lower() == "false")
        return {
            key: self._value(value, (*at, key), inside, raw and key != "enabled") for key, (_, value) in entries.items()
        }

    def _merged(self, node: Node, at: Path_) -> Iterator[tuple[str, int, Node]]:
        """The entries that `<<: *anchor` or `<<: [*a, *b]` brings in."""
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(source, MappingNode):
                self._wrong(node.start_mark.line + 1, (*at, "<<"), "must refer to a mapping")
                continue
            for key, value in source.value:
                yield str(key.value), key.start_mark.line + 1, value

    def _scalar(self, node: ScalarNode, at: Path_, raw: bool) -> Any:
        text, kind = str(node.value), str(node.tag).removeprefix(_TAG)
        match kind:
            case "str":
                return text if raw else self._expand(text, node.start_mark.line + 1, at)
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float":
                return self._number(text, node.start_mark.line + 1, at)
            case "timestamp":
                return text
        self._wrong(node.start_mark.line + 1, at, "has a tag; tags are not read")
        return None

    def _number(self, text: str, line: int, at: Path_) -> int | Decimal | None:
        digits = text.replace("_", "").lower()
        try:
            if re.fullmatch(r"[-+]?0[xo].+", digits):
                return int(digits, 0)
            if re.fullmatch(r"[-+]?\d+", digits):
                return int(digits)
            number = Decimal(digits.replace(".inf", "inf").replace(".nan", "nan"))
            if number.is_finite() and abs(number.adjusted()) > 300:
                raise ValueError  # 1e999999999 as an integer would be a gigabyte
            return number
        except (ValueError, ArithmeticError):
            self._wrong(line, at, "is not a number that can be read")
            return None

    def _expand(self, text: str, line: int, at: Path_) -> str:
        """$VAR, ${VAR}, ${VAR:-default}; $$ is a dollar sign. A $ before anything else stays."""

        def wrong(message: str) -> None:
            self.unset.append(Problem(line, dotted(at), message))

        def value(match: re.Match[str]) -> str:
            if match[1]:
                return "$"
            if match[5]:
                wrong("has a ${ that is not ${NAME} or ${NAME:-default}")
                return match[0]
            name, default = match[2] or match[3], match[4]
            found = self.env.get(name)
            if default is not None:
                return found or default  # an empty variable counts as unset here, as in a shell
            if found is None and match[2] and match[0] != text:  # perhaps a $ within a secret
                wrong("has a $ that begins no variable which is set; write ${NAME}, or $$ for a dollar sign")
                return match[0]
            if found is None:
                wrong(f"the environment variable {name} is not set; set it{_or_disable(at)}")
                return match[0]
            return found

        return _VARIABLE.sub(value, text)


# Pydantic's words, where a person who edits a file would say it otherwise.
_WORDS = {
    "missing": "is missing",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
}


def _or_disable(at: Path_) -> str:
    if len(at) > 2 and at[0] == "providers":
        return f", or put enabled: false under {dotted(at[:2])}"
    return ", or write ${NAME:-default}"


def dotted(at: Path_) -> str:
    """providers.openai.models[0].id"""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _problems(error: ValidationError, lines: Mapping[Path_, int]) -> Iterator[Problem]:
    for item in error.errors(include_url=False, include_input=False):
        at: Path_ = tuple(part for part in item["loc"] if part != "[key]")
        message = item["msg"]
        context = item.get("ctx", {})
        if item["type"] == "aion":
            at += tuple(context["at"])
        elif item["type"] == "extra_forbidden":
            message = _unknown(at)
        else:
            message = _WORDS.get(item["type"]) or message.replace("Input should be", "must be")
        at = _real(at, lines)
        yield Problem(_line(at, lines), dotted(at), message)


def _real(at: Path_, lines: Mapping[Path_, int]) -> Path_:
    """Without pydantic's names of union members, which are no keys of the file: the last part at most."""
    while len(at) > 1 and at not in lines and at[:-1] in lines and not str(at[-1]).isidentifier():
        at = at[:-1]
    return at


def _line(at: Path_, lines: Mapping[Path_, int]) -> int:
    while at not in lines:
        at = at[:-1]
    return lines[at] if at else 0


def _unknown(at: Path_) -> str:
    known = tuple(_fields_at(at[:-1]))
    near = difflib.get_close_matches(str(at[-1]), known, n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"


def _fields_at(at: Path_) -> Mapping[str, object]:
    """The keys that the model at a place knows."""
    annotation: Any = Settings
    for part in at:
        if typing.get_origin(annotation) in (dict, tuple):
            annotation = _model_in(annotation)
        else:
            model = _model_in(annotation)
            annotation = model and model.model_fields[str(part)].annotation
    model = _model_in(annotation)
    return model.model_fields if model else {}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        if (found := _model_in(argument)) is not None:
            return found
    return None
