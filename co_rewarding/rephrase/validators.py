# SPDX-License-Identifier: Apache-2.0
r"""Is a rewrite fit to be paired with its question? Named checks of the two texts, without a model or a label.

    findings(x, x') = [a finding for each validator that objects to x' as another wording of x]

Why (arXiv 2508.00410, Eq. 6-8): the vote on x' labels the rollouts on x, so a rewrite that asks for something else
teaches wrong answers. Whether two texts ask the same cannot be seen from their characters
(co_rewarding.rephrase.verify asks a model); what can be seen is listed in VALIDATORS.

Each validator was set so that it rarely objects to a good pair: on 21,609 published pairs, see data/README.md. They
compare with the question, so what is odd in the question already (one $, unbalanced braces) is no finding. Text is
untrusted: only its first MAX_CHARS characters are read, in time linear in their number.

Deliberately absent: the ground truth, which no self-rewarding method may read; style and difficulty.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from co_rewarding.rephrase.instruction import Markers

MAX_CHARS = 20_000


@dataclass(frozen=True)
class Finding:
    """One objection: which validator, and what it saw (at most a line)."""

    validator: str
    detail: str

    def __str__(self) -> str:
        return f"{self.validator}: {self.detail}"


@dataclass(frozen=True)
class Limits:
    """Thresholds of the validators that have one. Lengths are those of the prose: figures' code is left out."""

    min_length_ratio: float = 0.2  # rewrite / question in characters, of questions of 100 and more
    max_length_ratio: float = 6.0  # ... of rewrites of 400 and more
    max_vanished_share: float = 0.5  # of a question's different numbers, 0-1; only above it an objection
    markers: Markers = field(default_factory=Markers)

    def __post_init__(self) -> None:
        if not 0 <= self.min_length_ratio < 1:
            raise ValueError(f"min_length_ratio is {self.min_length_ratio}: use a ratio from 0 to below 1")
        if not self.max_length_ratio > 1:
            raise ValueError(f"max_length_ratio is {self.max_length_ratio}: use a ratio above 1")
        if not 0 <= self.max_vanished_share <= 1:
            raise ValueError(f"max_vanished_share is {self.max_vanished_share}: use a share between 0 and 1")


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


def _empty(x: _Text, y: _Text, limits: Limits) -> str | None:
    return None if re.search(r"[^\W_]", y.text) else "no letter or digit"


def _placeholder(x: _Text, y: _Text, limits: Limits) -> str | None:
    if _PLACEHOLDER.fullmatch(y.text.strip()[:200]):
        return f"the text is {_short(y.text)}"
    slot = _SLOT.search(y.text)
    return f"holds {_short(slot.group())}" if slot and not _SLOT.search(x.text) else None


def _wrapped(x: _Text, y: _Text, limits: Limits) -> str | None:
    return f"all in angle brackets: {_short(y.text)}" if _WRAPPED.fullmatch(y.text.strip()) else None


def _unchanged(x: _Text, y: _Text, limits: Limits) -> str | None:
    return "same as the question but for spaces, case and punctuation" if _skeleton(x) == _skeleton(y) else None


def _skeleton(text: _Text) -> str:
    """Without white space, display style, and the marks at the ends of sentences."""
    return re.sub(r"\s+|\\[,;!]|\\(?:left|right|displaystyle)\b|\$|\\\[|\\\]|[.,;:?!](?=\s|$)", "", text.text).lower()


def _marker_left(x: _Text, y: _Text, limits: Limits) -> str | None:
    marker = limits.markers.find_in(y.text)
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


def _commentary(x: _Text, y: _Text, limits: Limits) -> str | None:
    found = _COMMENTARY.search(y.text)
    return f"speaks about itself: {_around(y.text, found)}" if found and not _COMMENTARY.search(x.text) else None


_ANSWER = re.compile(
    r"""\\boxed\s{0,4}\{(?!\s{0,4}(?:\\(?:q?quad|ldots|cdots|phantom|text|hspace|square|,|;|\s)|[?_.\s]|\}))
    |(?:^|\n)[\W_]{0,6}(?:solution|answer|final\sanswer)[*_\s]{0,4}:[*_\s]{0,4}(?![\s_.?]*(?:$|\n))\S
    |\b(?:the|its|your)\s(?:final\s|correct\s)?answer\s(?:is|equals|turns\sout\sto\sbe)\s{0,3}:?\s{0,3}(?:\$\s{0,3})?
      (?:-?\d|\\(?:d?frac|sqrt|pi|infty|text)\b)""",
    re.IGNORECASE | re.VERBOSE,
)


def _answer_given(x: _Text, y: _Text, limits: Limits) -> str | None:
    found = _ANSWER.search(y.text)
    return f"states an answer: {_around(y.text, found)}" if found and not _ANSWER.search(x.text) else None


# --- broken_latex


def _broken_latex(x: _Text, y: _Text, limits: Limits) -> str | None:
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

_WORDS: dict[str, int] = {
    name: value
    for value, names in {
        1: "one first single once",
        2: "two second double both pair twice half halves squared quadratic couple",
        3: "three third triple thrice thirds triangle triangular cubed cube cubic yard yards",
        4: "four fourth quadruple quarter quarters square quadrilateral quartic",
        5: "five fifth quintuple pentagon pentagonal quintic",
        6: "six sixth hexagon hexagonal die dice cube",
        7: "seven seventh heptagon week",
        8: "eight eighth octagon octagonal cube",
        9: "nine ninth nonagon digit digits",
        10: "ten tenth decagon decimal decade",
        11: "eleven eleventh",
        12: "twelve twelfth dozen dodecagon year noon midnight foot feet",
        **{k: name for k, name in enumerate(["thirteen", "fourteen", "fifteen", "sixteen", "seventeen"], start=13)},
        **{18: "eighteen", 19: "nineteen", 20: "twenty icosahedron", 24: "day", 26: "alphabet"},
        30: "thirty",
        40: "forty",
        50: "fifty half coin fair equal equally",
        60: "sixty hour hourly minute minutes equilateral",
        70: "seventy",
        80: "eighty",
        90: "ninety right perpendicular",
        100: "hundred percent percentage cent cents dollar dollars whole entire century",
        180: "straight supplementary half",
        200: "double doubles twice",
        360: "circle full complete",
        365: "year annual",
        1000: "thousand",
        10**6: "million",
        10**9: "billion",
        10**12: "trillion",
    }.items()
    for name in names.split()
}
"""Words that say a number; of several that a word may say, this has one and _ALSO the rest."""
_ALSO: dict[str, tuple[int, ...]] = {
    "half": (2, 50, 180),
    "quarter": (15, 25, 90),
    "quarters": (15, 25, 75),
    "square": (4, 90),
    "cube": (3, 6, 8, 12),
    "double": (2, 200),
    "twice": (2, 200),
    "digit": (10, 99, 100, 999, 1000, 9999, 10_000),
    "digits": (10, 99, 100, 999, 1000, 9999, 10_000),
    "year": (12, 365),
    "standard": (6, 52),
    "deck": (52,),
    "leap": (29, 366),
    "perpendicular": (90,),
    "triangle": (180,),
}
_NUMBER = re.compile(r"(?<![\d.])(?:\d{1,3}(?:(?:,|\{,\}|\\,|,\\!|\\!,)\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\d.])\.\d+")
_MAX_DIGITS = 9  # more are a pattern, which has other spellings
_NO_QUANTITY = re.compile(
    r"""_\s{0,2}(?:\{[^{}]{0,40}\}|\d)          # an index
    |\\angle\s{0,2}\d|\b[a-zA-Z]\d\b              # a name
    |(?<!\d)\d{1,9}\s{0,2}!|\bin\s(?:1[7-9]|20)\d\d\b    # a factorial, a year
    |\[img\][^\[\]]{0,300}\[/img\]|https?://\S+ # an address
    |\\hspace\{[^{}]{0,20}\}|\\[vh]?skip\S{0,10}""",
    re.VERBOSE,
)
_DIGIT_FRACTION = re.compile(r"(\\[dtc]?frac)\s{0,2}(?:(\d)\s{0,2}(\d)|\{(\d{1,9})\}\s{0,2}(\d)|(\d)\s{0,2}\{)")
_FIRST_CHOICE = re.compile(r"(?:\\(?:textbf|text|mathrm|textrm|mathbf)\{\s{0,2})?\(\s{0,2}A\s{0,2}\)")
_DOTS = re.compile(r"\\[lcv]?dots[bcm]?\b|\.\.\.|…")
# An example, or a reminder of what a word means, is not what is asked.
_EXAMPLE = re.compile(
    r"\(?\b(?:for\s(?:example|instance)|e\.g\.|i\.e\.|such\sas|reminder|examples?\b|like\s\$?\d).{0,400}?(?:[.)](?=\s|$)|$)"
    r"|\([^()]{0,200}\bfor\s(?:example|instance)\b[^()]{0,200}\)",
    re.IGNORECASE | re.DOTALL,
)


def _numbers(text: str) -> list[Fraction]:
    r"""Numbers that are written in `text` with digits, in its order.

    \frac12 is 1 and 2, and neighbours such as 400,401,402 are three, where 123,456 is one.
    """
    found = []
    for number in _NUMBER.findall(_DIGIT_FRACTION.sub(_spell_fraction, text)):
        groups = number.split(",")
        neighbours = len(groups) > 1 and all(g.isdigit() for g in groups)
        neighbours = neighbours and all(int(b) == int(a) + 1 for a, b in pairwise(groups))
        for part in groups if neighbours else [number]:
            digits = re.sub(r"[^\d.]", "", part)
            if len(digits) <= _MAX_DIGITS:
                found.append(Fraction(digits if digits[0] != "." else "0" + digits))
    return found


def _spell_fraction(found: re.Match[str]) -> str:
    command, *parts = found.groups()
    return f"{command} {' '.join(filter(None, parts))} " + ("{" if found.group().endswith("{") else "")


def _stated(text: _Text) -> set[Fraction]:
    """Numbers that the question depends on, as far as can be seen.

    Not among them: 1 and 2, which are as often said by other means (a, both, squared, even), names and indices,
    choices to choose from, the inside of a run of neighbours. Where a list goes on in dots, which has many spellings,
    there are none at all.
    """
    prose = text.prose
    if (choices := _FIRST_CHOICE.search(prose)) and len(_choices(prose)) >= 3:
        prose = prose[: choices.start()]
    prose = _NO_QUANTITY.sub(" ", _EXAMPLE.sub(" ", prose))
    if _DOTS.search(prose):
        return set()
    numbers = {number for number in _numbers(prose) if number > 2}
    # Of a run of three and more neighbours, the ends.
    return {n for n in numbers if not (n - 1 in numbers and n + 1 in numbers)}


def _said(text: str) -> set[Fraction]:
    """Numbers that `text` states in digits or words, or that follow from one of those in one step."""
    said = set(_numbers(text)) | set(_numbers(re.sub(r"(?<=\d)[,-](?=\d)", " ", text)))
    said |= {Fraction(part) for decimal in re.findall(r"\d{1,9}\.\d{1,9}", text) for part in decimal.split(".")}
    previous = 0
    for word in re.findall(r"[a-z]+", text.lower()):
        value = _WORDS.get(word) or _WORDS.get(re.sub(r"(?:ths?|s)$", "", word), 0)
        if value:
            said.add(Fraction(value))
            if previous:
                said |= {Fraction(previous + value), Fraction(previous * value)}  # twenty-one, two hundred
        previous = value
        said |= {Fraction(number) for number in _ALSO.get(word, ())}
    known = sorted(said)[:60]
    for number in known:
        # 3 million; 50 % and 0.5; 2 dozen; 1.5 hours; 4 and 16 in x^2; 5.50 and 550 cents
        said |= {number * factor for factor in (10, 12, 60, 100, 1000, 10**6)}
        said |= {number / factor for factor in (10, 12, 60, 100, 1000)}
        said |= {number + 1, number - 1}  # less than 10, at most 9
        if number <= 10**6:
            said |= {number**2, number**3, 2 * number, number / 2, number * 90}
    roots = {Fraction(k) for k in range(3, 101) if any(k**power in said for power in (2, 3))}
    return said | roots


def _numbers_vanished(x: _Text, y: _Text, limits: Limits) -> str | None:
    gone = stated = _stated(x)
    for find in (_numbers, _said):  # the second is exact and slow
        gone = gone - set(find(y.text))
        if not gone or len(gone) <= limits.max_vanished_share * len(stated):
            return None
    names = ", ".join(str(float(n)).removesuffix(".0") for n in sorted(gone)[:5])
    return f"{len(gone)} of {len(stated)} numbers are gone: {names}"


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
_TOLD_IN_WORDS = 1.8  # a rewrite so many times as long as the question without its figure says what was in the figure


def _figure_vanished(x: _Text, y: _Text, limits: Limits) -> str | None:
    if not _FIGURE_CODE.search(x.text) or _FIGURE_CODE.search(y.text):
        return None
    talk = _FIGURE_TALK.search(y.text)
    if talk is None and len(y.prose) < _TOLD_IN_WORDS * len(x.prose):
        talk = _SHADING_TALK.search(y.text)
    return f"the figure's code is gone, yet the text says: {_around(y.text, talk)}" if talk else None


# --- other_language

_SCRIPTS = {
    "Chinese or Japanese": re.compile(r"[\u3040-\u30ff\u3400-\u9fff]"),
    "Korean": re.compile(r"[\uac00-\ud7af]"),
    "Cyrillic": re.compile(r"[\u0400-\u04ff]"),
    "Arabic": re.compile(r"[\u0600-\u06ff]"),
    "Devanagari": re.compile(r"[\u0900-\u097f]"),
    "Thai": re.compile(r"[\u0e00-\u0e7f]"),
    "Hebrew": re.compile(r"[\u0590-\u05ff]"),
}
_COMMON_WORDS = {
    "English": "the of is and an what that find for how many in are by with if to be let given as",
    "German": "der die das und ist ein eine wie viele wenn dass mit für von den dem wird sind nicht zu",
    "French": "le la les et est une des du que pour dans quelle quel combien soit avec sur qui au",
    "Spanish": "el la los las es una del que para con cuál cuántos si por se cuál en sea de",
    "Italian": "il lo gli una che per con qual quanti se di della dei sia nel delle del un",
    "Portuguese": "o os as e é uma do da que para com qual quantos se dos das seja em não um",
}
_COMMON = {language: frozenset(words.split()) for language, words in _COMMON_WORDS.items()}
_FOREIGN_LETTERS = 4  # fewer are names and symbols


def _other_language(x: _Text, y: _Text, limits: Limits) -> str | None:
    for script, pattern in _SCRIPTS.items():
        if len(pattern.findall(y.prose)) >= _FOREIGN_LETTERS and not pattern.search(x.prose):
            return f"{script} letters, of which the question has none"
    language_x, language_y = _language(x.words), _language(y.words)
    if language_x and language_y and language_x != language_y:
        return f"{language_y}, the question is {language_x}"
    return None


def _language(words: list[str]) -> str | None:
    """The language whose common words are a fifth of `words`, twice as many as any other's; None if unclear."""
    if len(words) < 8:
        return None
    hits = sorted(((sum(w in common for w in words), language) for language, common in _COMMON.items()), reverse=True)
    most, language = hits[0]
    return language if most >= len(words) / 5 and most >= 2 * hits[1][0] else None


# --- too_short, too_long, no_question, choices_vanished


def _too_short(x: _Text, y: _Text, limits: Limits) -> str | None:
    if len(x.prose) < 100 or len(y.text) >= limits.min_length_ratio * len(x.prose):
        return None
    return f"{len(y.text)} characters for a question of {len(x.prose)}"


def _too_long(x: _Text, y: _Text, limits: Limits) -> str | None:
    if len(y.text) >= MAX_CHARS > len(x.text):
        return f"{MAX_CHARS:,} characters and more"
    if len(y.prose) < 400 or len(y.prose) <= limits.max_length_ratio * len(x.text):
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


def _choices_vanished(x: _Text, y: _Text, limits: Limits) -> str | None:
    if len(_choices(x.text)) < 3 or len(_choices(y.text)) >= 2:
        return None
    talk = _CHOICE_TALK.search(y.text)
    return f"the choices are gone, yet the text says: {_around(y.text, talk)}" if talk else None


# --- all of them


_FORMULA = re.compile(r"\\\[.{0,2000}?\\\]|\$\$.{0,2000}?\$\$|\$[^$]{0,2000}\$|\\[a-zA-Z]+", re.DOTALL)


@dataclass(frozen=True)
class _Text:
    text: str  # clipped to MAX_CHARS
    prose: str  # without the code of figures
    words: list[str]  # of the prose, in lower case, without formulas

    @classmethod
    def of(cls, text: str) -> _Text:
        clipped = text[:MAX_CHARS]
        prose = _FIGURE_BLOCK.sub(" ", clipped).strip()
        words = re.findall(r"[^\W\d_]{2,40}", _FORMULA.sub(" ", prose).lower())
        return cls(clipped, prose, words)


VALIDATORS: dict[str, tuple[str, Callable[[_Text, _Text, Limits], str | None]]] = {
    "empty": ("no letter or digit", _empty),
    "placeholder": ("the instruction's placeholder instead of a question", _placeholder),
    "wrapped": ("the whole text in angle brackets, like the placeholder of an instruction", _wrapped),
    "unchanged": ("the question itself", _unchanged),
    "marker_left": ("text of a marker or a control token", _marker_left),
    "commentary": ("speaks about the rewriting", _commentary),
    "answer_given": ("states an answer", _answer_given),
    "broken_latex": ("braces, dollars, environments or delimiters that do not match", _broken_latex),
    "numbers_vanished": ("most of the question's numbers above 2 are gone", _numbers_vanished),
    "figure_vanished": ("the figure's code is gone while the text still speaks of a figure", _figure_vanished),
    "choices_vanished": ("the choices are gone while the text still speaks of them", _choices_vanished),
    "other_language": ("another language or script", _other_language),
    "too_short": ("far shorter than the question", _too_short),
    "too_long": ("far longer than the question", _too_long),
}
"""Name -> what it objects to, and the check itself, in the order in which findings are reported."""


def validate(question: str, rewrite: str, limits: Limits | None = None, skip: Collection[str] = ()) -> list[Finding]:
    """Objections to `rewrite` as another wording of `question`; none for a pair that looks right.

    Args:
        question, rewrite: the two texts, without system prompt.
        limits: thresholds, the defaults where None.
        skip: names of validators that are not asked.

    Raises:
        ValueError: a name in `skip` that is no validator.
    """
    if unknown := sorted(set(skip) - VALIDATORS.keys()):
        raise ValueError(f"validator {unknown[0]!r} is unknown: use names out of {', '.join(VALIDATORS)}")
    limits = limits or Limits()
    x, y = _Text.of(question), _Text.of(rewrite)
    found = []
    for name, (_, check) in VALIDATORS.items():
        if name not in skip and (detail := check(x, y, limits)) is not None:
            found.append(Finding(name, detail))
            if name in ("empty", "placeholder"):  # the others would only repeat it
                break
    return found


def _short(text: str, most: int = 60) -> str:
    text = " ".join(text[: 4 * most].split())
    return repr(text if len(text) <= most else text[: most - 3] + "...")


def _around(text: str, found: re.Match[str]) -> str:
    return _short(text[max(0, found.start() - 15) : found.end() + 25])
