# SPDX-License-Identifier: Apache-2.0
r"""Checks whether a rewrite can be paired with its question: named tests of the two texts, without a model or label.

    findings(x, x') = [a finding for each validator that objects to x' as a rephrasing of x]

Why (arXiv 2508.00410, Eq. 6-8): the vote on x' labels the rollouts on x, so a rewrite of a different question teaches
wrong answers. Equivalence of two texts cannot be decided from their characters (co_rewarding.tools.rephrase.verify uses
a model); VALIDATORS lists what can.

Each validator is tuned to object rarely to good pairs: on 21,609 published pairs, see data/README.md. They compare with
the question, so oddities of the question itself (one $, unbalanced braces) are no finding. Text is untrusted: only its
first MAX_CHARS characters are read, in time linear in their number. No ground truth is used, since a self-rewarding
method must not read one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from co_rewarding.storage.question_numbers import vanished
from co_rewarding.tools.cli import printable
from co_rewarding.tools.data.markers import Markers

MAX_CHARS = 20_000
DEFAULT_MARKERS = Markers()


@dataclass(frozen=True)
class Finding:
    """One objection: the validator and its evidence (at most a line)."""

    validator: str
    detail: str

    def __str__(self) -> str:
        return f"{self.validator}: {self.detail}"


# Lengths are those of the prose: figures' code is left out.
MIN_LENGTH_RATIO = 0.2  # rewrite / question in characters
MAX_LENGTH_RATIO = 6.0  # ... of rewrites of 400 and more

# --- placeholder, empty, unchanged, marker_left, commentary, answer_given

_PLACEHOLDER = re.compile(
    r"""[<\[({*_"'\s]*
    (?:(?:the|your|a|an|insert|write|put|place|full|complete|entire|new)\s+){0,5}
    (?:rewritten|rephrased|restated|reworded|paraphrased|new|final|modified)?\s*
    (?:math(?:ematics|ematical)?\s+)?
    (?:question|problem|version|text|rewrite|rephrasing)
    (?:\s+(?:here|goes\s+here|text|only|in\s+latex))?
    [>\])}*_"'\s.:!?]*""",
    re.IGNORECASE | re.VERBOSE,
)
_SLOT = re.compile(
    r"[<\[{(]\s{0,2}(?:insert|your|the)?\s{0,2}(?:complete\s|full\s)?"
    r"(?:rewritten|rephrased|reworded|restated|new)\s(?:question|problem|version)[^\n<>\[\]{}()]{0,40}[>\]})]",
    re.IGNORECASE,
)

_WRAPPED = re.compile(r"<[^<>]+>")


def _empty(x: _Text, y: _Text) -> str | None:
    return None if re.search(r"[^\W_]", y.text) else "no letter or digit"


def _placeholder(x: _Text, y: _Text) -> str | None:
    if _PLACEHOLDER.fullmatch(y.text.strip()[:200]):
        return f"the text is {_short(y.text)}"
    slot = _SLOT.search(y.text)
    return f"contains {_short(slot.group())}" if slot and not _SLOT.search(x.text) else None


def _wrapped(x: _Text, y: _Text) -> str | None:
    return f"all in angle brackets: {_short(y.text)}" if _WRAPPED.fullmatch(y.text.strip()) else None


def _unchanged(x: _Text, y: _Text) -> str | None:
    return "same as the question except for spaces, case and punctuation" if _skeleton(x) == _skeleton(y) else None


def _skeleton(text: _Text) -> str:
    """Without white space, display style, and the marks at the ends of sentences."""
    return re.sub(r"\s+|\\[,;!]|\\(?:left|right|displaystyle)\b|\$|\\\[|\\\]|[.,;:?!](?=\s|$)", "", text.text).lower()


def _marker_left(x: _Text, y: _Text) -> str | None:
    marker = y.marker
    if marker is None:
        found = re.search(r"</?think>|<\|[a-z_]{2,30}\|>", y.text)
        marker = found.group() if found and found.group() not in x.text else None
    return None if marker is None else f"holds {marker!r}"


_COMMENTARY = re.compile(
    r"""^\W*(?:here(?:'s|\sis)\s(?:the|a|my|your)\s(?:rewritten|rephrased|reworded|new|revised|modified|rewrite)\b
        |sure\b[,!.]|certainly\b[,!.]|of\scourse\b[,!.]|okay\b[,!.])
    |\b(?:the|your|this)\soriginal\s(?:question|problem|wording|version)\b
    |\b(?:rewritten|rephrased|reworded)\s(?:version|question|problem)\b
    |\bi\s(?:have\s|'ve\s)?(?:rewritten|rephrased|reworded)\b""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)


def _commentary(x: _Text, y: _Text) -> str | None:
    found = _COMMENTARY.search(y.text)
    return f"speaks about itself: {_around(y.text, found)}" if found and not _COMMENTARY.search(x.text) else None


_VALUE = r"(?:\$|\\[(\[])?\s{0,3}-?\s?(?:\d|\\(?:d?frac|sqrt|pi|infty|text)\b)"
# Ways to tell it: a box that is not left empty; "Answer: …", which opens a sentence (what follows "choose the
# correct answer:" are choices) and has no blank to fill in; "the answer is 5" (not "if the answer is $2^n$, find $n$"),
# or a last sentence "Thus the sum is 5."
_ANSWER = re.compile(
    rf"""\\boxed\s{{0,4}}\{{(?!\s{{0,4}}(?:\\(?:q?quad|ldots|cdots|phantom|text|hspace|square|,|;|\s)|[?_.\s]|\}}))
    |(?<![^\W_])(?<![a-z0-9%$}}][ \t])(?:(?:the|its|your)\s)?(?:(?:final|correct)\s)?(?:answer|solution|result)
      [*_\s]{{0,4}}:[*\s]{{0,6}}(?![_.?]|\$?\s?\\(?:_|underline|boxed|square|hspace))[^\s*]
    |(?<!if\s)(?<!then\s)\b(?:the|its|your)\s(?:final\s|correct\s)?answer\s(?:is|equals|turns\sout\sto\sbe)
      \s{{0,3}}:?\s{{0,3}}{_VALUE}
    |(?<=[.?!])\s{{1,4}}(?:thus|therefore|hence|so),?\s
      (?:(?:the|its|our)\s(?:\S{{1,20}}\s){{0,6}}(?:is|are|equals|=)\s|\$?\w{{1,3}}\s?=\s?){_VALUE}[^.?!\n]{{0,30}}[.!]?\s*\Z""",
    re.IGNORECASE | re.VERBOSE,
)


def _answer_given(x: _Text, y: _Text) -> str | None:
    found = _ANSWER.search(y.text)
    return f"states an answer: {_around(y.text, found)}" if found and not _ANSWER.search(x.text) else None


# --- broken_latex


def _broken_latex(x: _Text, y: _Text) -> str | None:
    known = {kind for kind, _ in _latex_faults(x.prose)}
    return next((detail for kind, detail in _latex_faults(y.prose) if kind not in known), None)


def _latex_faults(text: str) -> list[tuple[str, str]]:
    """(kind, detail) of each kind of fault in `text`."""
    faults = []
    bare = re.sub(r"\\\\", "  ", text)
    depth, lowest = 0, 0
    for brace in re.finditer(r"\\[{}]|[{}]", bare):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        lowest = min(lowest, depth)
    if depth or lowest < 0:
        faults.append(("braces", "{ and } do not balance"))
    # A dollar before a digit may be money. Fault: dollars do not pair up even if any number of those are money.
    dollars = re.findall(r"(?<!\\)\$", bare)
    money = re.findall(r"(?<![\\$])\$(?=\s?\d)", bare)
    if len(dollars) % 2 and not money:
        faults.append(("dollars", f"{len(dollars)} dollar signs do not pair up"))
    begins, ends = (
        Counter(re.findall(rf"\\{word}\s{{0,4}}\{{([^{{}}]{{1,40}})\}}", text)) for word in ("begin", "end")
    )
    if begins != ends:
        names = sorted({*(begins - ends), *(ends - begins)})
        faults.append(("environments", f"\\begin and \\end do not match: {', '.join(names)[:80]}"))
    left, right = (len(re.findall(rf"\\{word}(?![a-zA-Z])", text)) for word in ("left", "right"))
    if left != right:
        faults.append(("delimiters", f"{left} \\left and {right} \\right"))
    if len(re.findall(r"(?<!\\)\\\[(?!asy)", text)) != len(re.findall(r"(?<!\\)\\\](?!asy)", text)):
        faults.append(("display", "\\[ and \\] do not match"))
    return faults


# --- numbers_vanished

_FIRST_CHOICE = re.compile(r"(?:\\(?:textbf|text|mathrm|textrm|mathbf)\{\s{0,2})?\(\s{0,2}A\s{0,2}\)")


def _numbers_vanished(x: _Text, y: _Text) -> str | None:
    choices = _FIRST_CHOICE.search(x.prose) if len(_choices(x.prose)) >= 3 else None
    gone, stated = vanished(x.prose[: choices.start()] if choices else x.prose, y.text)
    if not gone:
        return None
    names = ", ".join(str(float(n)).removesuffix(".0") for n in gone[:5])
    return f"{len(gone)} of {stated} numbers are missing: {names}"


# --- figure_vanished

_FIGURE_CODE = re.compile(
    r"\[\s{0,2}asy\s{0,2}\]|\\text\{\s{0,2}\[?asy\]?\s{0,2}\}|\\begin\{\s{0,2}(?:asy|tikzpicture|picture)\s{0,2}\}"
    r"|```\s{0,2}asy|\[img\]|\\includegraphics|!\[[^\]\n]{0,200}\]\(",
    re.IGNORECASE,
)
_FIGURE_BLOCK = re.compile(
    r"\[\s{0,2}asy\s{0,2}\].*?(?:\[\s{0,2}/\s{0,2}asy\s{0,2}\]|\Z)|```\s{0,2}asy.*?(?:```|\Z)"
    r"|\\text\{\s{0,2}\[?asy\]?\s{0,2}\}.*?(?:\\text\{\s{0,2}\[?/asy\]?\s{0,2}\}|\Z)"
    r"|\\begin\{(?:asy|tikzpicture|picture)\}.*?(?:\\end\{(?:asy|tikzpicture|picture)\}|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_PICTURE = r"(?:figure|diagram|picture|image|sketch|illustration|drawing|chart|graph|plot)s?"
_THING = r"(?:map|grid|table|layout)s?"  # may be part of the story
_FIGURE_TALK = re.compile(
    rf"""\b(?:in|on|from|per|using|based\son|according\sto|refer\sto|see|at)\sthe\s(?:\w+\s){{0,2}}{_PICTURE}\b
    |\b(?:{_PICTURE}|{_THING})\s(?:\w+\s){{0,2}}(?:shows?|shown|below|above|displays?|displayed|depicts?|provided|pictured)\b
    |\bas\s(?:\w+\s)?(?:shown|pictured|depicted|illustrated|drawn|displayed|indicated)\b
    |\b(?:is|are)\s(?:\w+\s)?(?:shown|pictured|depicted|illustrated|displayed)\b
    |\b(?:shown|pictured|depicted|illustrated|displayed|drawn|given)\s(?:\w+\s){{0,2}}(?:below|above|here)\b
    |\[\s{{0,2}}asy""",
    re.IGNORECASE | re.VERBOSE,
)
_SHADING_TALK = re.compile(r"\bthe\s(?:\w+\s){0,3}(?:shaded|highlighted|darkened|gr[ae]y)\b", re.IGNORECASE)
_TOLD_IN_WORDS = 1.8  # a rewrite this many times as long as the question without its figure describes the figure


def _figure_vanished(x: _Text, y: _Text) -> str | None:
    if not _FIGURE_CODE.search(x.text) or _FIGURE_CODE.search(y.text):
        return None
    talk = _FIGURE_TALK.search(y.text)
    if talk is None and len(y.prose) < _TOLD_IN_WORDS * len(x.prose):
        talk = _SHADING_TALK.search(y.text)
    return f"the figure's code is missing, yet the text says: {_around(y.text, talk)}" if talk else None


# --- other_language

# Greek letters only as words of four and more: fewer are mathematics. Then all scripts from Cyrillic to Mongolian, and
# those of East Asia.
_OTHER_SCRIPT = re.compile(r"[\u0370-\u03ff]{4,}|[\u0400-\u1cff\u3040-\u31ff\u3400-\ud7ff]")
_FOREIGN_LETTERS = 4  # fewer are names and symbols
# Frequent in English questions and rare in other languages: without in, is, for, a and the like.
_ENGLISH_WORDS = (
    "the of and that what which find how many much are by with if to be let given its it than or not this these each "
    "from when where who whose have does then they there their his she your between both all every one two years "
    "number value whether answer calculate compute evaluate simplify solve express expand convert factor"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_MIN_ENGLISH = 0.07  # of the words; published rewrites this long have at least 0.1, other languages 0.06
_MIN_WORDS = 8


def _other_language(x: _Text, y: _Text) -> str | None:
    letters = list(_OTHER_SCRIPT.finditer(y.prose))
    if sum(len(found.group()) for found in letters) >= _FOREIGN_LETTERS and not _OTHER_SCRIPT.search(x.prose):
        return f"a script that is not in the question: {_around(y.prose, letters[0])}"
    if len(y.words) >= _MIN_WORDS and _english(y) < _MIN_ENGLISH <= _english(x):
        return f"not English, unlike the question: {_short(y.prose)}"
    if len(x.words) >= _MIN_WORDS and _english(x) < _MIN_ENGLISH <= _english(y):
        return "English, unlike the question"
    return None


def _english(text: _Text) -> float:
    """Share of the words that are common English ones."""
    return sum(word in _ENGLISH for word in text.words) / max(len(text.words), 1)


# --- too_short, too_long, choices_vanished


def _too_short(x: _Text, y: _Text) -> str | None:
    if len(y.text) >= MIN_LENGTH_RATIO * len(x.prose):
        return None
    return f"{len(y.text)} characters for a question of {len(x.prose)}"


def _too_long(x: _Text, y: _Text) -> str | None:
    if len(y.text) >= MAX_CHARS > len(x.text):
        return f"at least {MAX_CHARS:,} characters"
    if len(y.prose) < 400 or len(y.prose) <= MAX_LENGTH_RATIO * len(x.text):
        return None
    return f"{len(y.prose)} characters for a question of {len(x.prose)}"


_CHOICE = re.compile(
    r"\(\s{0,2}([A-E])\s{0,2}\)|\\(?:textbf|text|mathrm|textrm)\{\s{0,2}\(?([A-E])\)|^\s{0,4}([A-E])[.:)]\s", re.M
)
_CHOICE_TALK = re.compile(
    r"\b(?:which|one)\sof\sthe\s(?:\w+\s){0,2}(?:options|choices|following|alternatives)\b|\bletters?\s(?:of|corresponding)\b"
    r"|\b(?:given|answer|listed)\s(?:options|choices)\b|\bthe\s(?:options|choices)\b|\b(?:correct|multiple)[-\s](?:choice|option)\b",
    re.IGNORECASE,
)


def _choices(text: str) -> set[str]:
    return {next(filter(None, groups)) for groups in _CHOICE.findall(text)}


def _choices_vanished(x: _Text, y: _Text) -> str | None:
    if len(_choices(x.text)) < 3 or len(_choices(y.text)) >= 2:
        return None
    talk = _CHOICE_TALK.search(y.text)
    return f"the choices are missing, yet the text says: {_around(y.text, talk)}" if talk else None


# --- all of them


_FORMULA = re.compile(r"\\\[.{0,2000}?\\\]|\$\$.{0,2000}?\$\$|\$[^$]{0,2000}\$|\\[a-zA-Z]+", re.DOTALL)


@dataclass(frozen=True)
class _Text:
    text: str  # clipped to MAX_CHARS
    prose: str  # without the code of figures
    words: list[str]  # of the prose, in lower case, without formulas
    marker: str | None  # the first one in it

    @classmethod
    def of(cls, text: str, markers: Markers) -> _Text:
        clipped = text[:MAX_CHARS]
        prose = _FIGURE_BLOCK.sub(" ", clipped).strip()
        words = re.findall(r"[^\W\d_]{2,40}", _FORMULA.sub(" ", prose).lower())
        return cls(clipped, prose, words, markers.find_in(clipped))


VALIDATORS: dict[str, tuple[str, Callable[[_Text, _Text], str | None]]] = {
    "empty": ("no letter or digit", _empty),
    "placeholder": ("the instruction's placeholder instead of a question", _placeholder),
    "wrapped": ("the whole text in angle brackets, like the placeholder of an instruction", _wrapped),
    "unchanged": ("the question itself", _unchanged),
    "marker_left": ("text of a marker or a control token", _marker_left),
    "commentary": ("speaks about the rewriting", _commentary),
    "answer_given": ("states an answer", _answer_given),
    "broken_latex": ("braces, dollars, environments or delimiters that do not match", _broken_latex),
    "numbers_vanished": ("most of the question's numbers above 2 are missing", _numbers_vanished),
    "figure_vanished": ("the figure's code is missing, but the text still mentions a figure", _figure_vanished),
    "choices_vanished": ("the choices are missing, but the text still mentions them", _choices_vanished),
    "other_language": ("another language or script", _other_language),
    "too_short": ("far shorter than the question", _too_short),
    "too_long": ("far longer than the question", _too_long),
}
"""Name -> description and check, in the order in which findings are reported."""


def validate(
    question: str, rewrite: str, markers: Markers = DEFAULT_MARKERS, skip: Collection[str] = ()
) -> list[Finding]:
    """Objections to `rewrite` as a rephrasing of `question`; none for a pair that looks right.

    Args:
        question, rewrite: the two texts, without system prompt.
        markers: the lines requested around the rewrite.
        skip: names of validators to skip.

    Raises:
        ValueError: a name in `skip` is no validator.
    """
    if unknown := sorted(set(skip) - VALIDATORS.keys()):
        raise ValueError(f"validator {unknown[0]!r} is unknown: use names out of {', '.join(VALIDATORS)}")
    x, y = _Text.of(question, markers), _Text.of(rewrite, markers)
    found = []
    for name, (_, check) in VALIDATORS.items():
        if name not in skip and (detail := check(x, y)) is not None:
            found.append(Finding(name, detail))
            if name in ("empty", "placeholder"):  # the others would only repeat it
                break
    return found


def _short(text: str) -> str:
    return repr(printable(text[:240], 60))


def _around(text: str, found: re.Match[str]) -> str:
    return _short(text[max(0, found.start() - 15) : found.end() + 25])
