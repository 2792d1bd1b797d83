"""What a user's turn asks, apart from the material it is about: pasted code, logs, traces, diffs.

The words of a pasted log say nothing about how hard the request is; that there is one does, a little. So the
instruction's words are read as they are, and of the material only marks are kept.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from aion_extproc.classify.features import excerpt
from aion_extproc.classify.terms import START, stems, terms

READ = 1_200  # characters at either end of a turn in which its instruction is looked for
MARKED = 400  # characters at either end in which marks are
HEAD = 200  # characters of an instruction whose words count, and as many at its end
FEW_LINES = 2  # a text of so few lines is all instruction,
LONG_LINE = 400  # but for material in lines of so many characters
SLACK = 20  # characters of blank lines and fences that an instruction may lack without having material
COMMAS = 3
LINES = 4
LONGEST = 6  # the mark of length stops at 2^6 words
RUN = 5  # so many weighty words in a row, without one that says what they are about, are no request

LONG_QUOTE = 22  # characters of a quotation that is more than a name or a word
BRIEF = 240  # characters of a line that may be all that is asked
_QUOTED: Final = " quotedtext "
_PASTE: Final = "pastedtext"
_NEWLINE: Final = "\n"
MARK: Final = "\x03"  # stands before a mark, so that no word is one

_WEIGHTY: Final = stems(
    *("analyze", "analyse", "analysis", "explain", "compare", "prove", "proof", "theorem", "derive", "deriving"),
    *("implement", "architect", "architecture", "design", "optimize", "optimise", "optimization", "refactor", "debug"),
    *("debugging", "evaluate", "migrate", "rewrite", "redesign", "restructure", "investigate", "synthesize", "reason"),
    *("reasoning", "formal", "rigorous", "mathematical", "algorithm", "complex", "complexity", "distributed"),
    *("concurrent", "concurrency", "scalable", "scalability", "critique", "hypothesis", "strategy", "advanced"),
    *("comprehensive", "microservice", "system", "systems"),
)
_JOINS: Final = stems("and", "or", "then", "also", "plus")
_WORD: Final = re.compile(r"[^\W\d_]{2}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af?]")

_QUOTE: Final = re.compile(
    r"\"[^\"]*(?:\"|$)|“[^”]*(?:”|$)|«[^»]*(?:»|$)|„[^“”]*(?:[“”]|$)|「[^」]*(?:」|$)|‘[^’]*’(?!\w)"
)
_TRACES: Final = (
    *("Traceback", 'File "', "\tat ", "  at ", "panic:", "FATAL", "Caused by:", "Error:", "Exception:", "ERROR"),
    *("error[", "ERR!"),
)
_PLACE: Final = re.compile(r"\.(?:py|js|ts|go|rs|java|rb|php|cs|kt|swift|cpp|c)[\"']?[:,(]\s?(?:line )?\d")
_CODE_STARTS: Final = (
    *("def ", "func ", "fn ", "class ", "import ", "from ", "const ", "let ", "var ", "public ", "private ", "return "),
    *("SELECT ", "select ", "#include", "package ", "use "),
)
_CODE_ENDS: Final = (";", "{", "}", "):")
_MATERIAL: Final = re.compile(
    r"\s{2,}|[+\-@<>|#$%*}{)\]]|at |\d|\[|File \"|Traceback|.{0,300}[;{}]$"
    r"|(?:from [\w.]+ import|import [\w.{]+(?: as \w+)?;?$|(?:async )?def \w+\(|class \w+ ?[(:{]|func \w+\(|fn \w+[(<]"
    r"|(?:export )?(?:const|let|var) \w+ ?[=:]|public |private |#include|package \w+;?$|using \w+;)"
    r"|\S{0,60}(?:Error|Exception)\b|.{0,60}\b(?:WARN|INFO|DEBUG|FATAL|ERROR|ERR!)|panic:|//|/\*"
)


def instruction(text: str) -> str:
    """The lines of a turn (its two ends) that are not material: not fenced, indented, or like code, a log, a diff.

    The whole text, without its fences, if no word is left.
    """
    shown = _ends(text)
    lines = shown.split("\n")
    if len(lines) <= FEW_LINES and not any(len(line) > LONG_LINE for line in lines):
        return shown
    kept: list[str] = []
    fenced = False
    for line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and line and not line.isspace() and not _MATERIAL.match(line):
            kept.append(line)
    said = "\n".join(kept)
    return said if _WORD.search(said) else shown.replace("```", "")


def asked(said: str) -> str:
    """An instruction without what it quotes: words in quotation marks, and long paragraphs beside short ones."""
    bare = _QUOTE.sub(_without_long_quote, said)
    blocks = [block for block in bare.split("\n") if block and not block.isspace()]
    if len(blocks) > 1:
        first, last = blocks[0], blocks[-1]
        short = [block for block in (first, last) if len(block) <= BRIEF]
        if short and len(bare) > 2 * sum(map(len, short)):
            bare = f" {_PASTE} ".join(short) if len(short) > 1 else f"{short[0]} {_PASTE}"
    return bare if _WORD.search(bare) else said


def _without_long_quote(found: re.Match[str]) -> str:
    quote = found[0]
    return quote if len(quote) < (LONG_QUOTE // 2 if quote[0] == "「" else LONG_QUOTE) else _QUOTED


def _ends(text: str) -> str:
    """The two ends of a long text, in whole lines: the rest of a line that is cut cannot be told from words."""
    if len(text) <= 2 * READ:
        return text
    head, tail = text[:READ], text[-READ:]
    return f"{head[: head.rfind(_NEWLINE)] if _NEWLINE in head else head}\n{tail[tail.find(_NEWLINE) + 1 :]}"


def marks(text: str, said: str, stuffed: int = 0) -> list[str]:
    """Marks of a turn: of its material, and of the length and shape of `said`, its instruction.

    `stuffed`: how many words of it are left out.
    """
    shown = excerpt(text, MARKED, MARKED)
    length = min(LONGEST, max(1, len(said[: 16 << LONGEST].split()) - stuffed).bit_length())
    found = [f"{MARK}length{length}"]
    if shown.count("\n") >= FEW_LINES and len(text) > len(said) + SLACK:
        lines = shown.split("\n")
        if _has_trace(shown):
            found.append(MARK + "trace")
        if "\n@@" in shown or ("\n+" in shown and "\n-" in shown):
            found.append(MARK + "diff")
        if any(line.lstrip().startswith(_CODE_STARTS) or line.rstrip().endswith(_CODE_ENDS) for line in lines):
            found.append(MARK + "code")
    if shown.count("\n") >= LINES:
        found.append(MARK + "lines")
    if said.count(",") >= COMMAS and not stuffed:
        found.append(MARK + "list")
    if said.rstrip().endswith("?"):
        found.append(MARK + "question")
    return found


def _has_trace(shown: str) -> bool:
    return any(map(shown.__contains__, _TRACES)) or _PLACE.search(shown) is not None


class Reading(NamedTuple):
    """A user's turn, read."""

    instruction: str  # without material
    words: list[str]  # its terms, without what it quotes
    terms: list[str]  # for the text model: `words` without keywords that are only strung together, and marks


def read(text: str) -> Reading:
    """A user's turn, of whatever length."""
    text = text.strip()
    said = instruction(text)
    words = terms(excerpt(asked(said), HEAD, HEAD))
    kept = _without_runs(words)
    return Reading(said, words, kept + marks(text, said, len(words) - len(kept)))


def _without_runs(found: list[str]) -> list[str]:
    """Without every run of RUN or more weighty words; "and" and the like do not end a run."""
    if sum(map(_WEIGHTY.__contains__, found)) < RUN:
        return found
    kept: list[str] = []
    run: list[str] = []
    for term in [*found, START]:
        if term in _WEIGHTY or (run and term in _JOINS):
            run.append(term)
            continue
        if sum(map(_WEIGHTY.__contains__, run)) < RUN:
            kept += run
        run = []
        kept.append(term)
    return kept[:-1]
