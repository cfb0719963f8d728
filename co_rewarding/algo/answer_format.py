# SPDX-License-Identifier: Apache-2.0
r"""How a response states its answer, and so how a prompt asks for it and how answers are compared.

A format is a property of the data, written in a row as a short text, and used wherever a response is read: in votes,
validation, evaluation and the check of rewritten questions.

    boxed             the last \boxed{...} (algo/answers.py); the default                     mathematics
    choice            the letter of an option: the last box, else the last "answer is ..." or "... is the answer",
                      else a response that is an option and nothing else; an option's text is
                      its letter                                                              text
    number            the last number                                                         mathematics
    tag               the last <answer>...</answer>                                           mathematics
    regex:PATTERN     the last match: of group 1 if the pattern has one                       text
    file.py:function  what a function of yours returns for (response) or (response, choices);
    module:function   None for no answer                                                      text

The right column is how answers of the format are compared: as mathematics (algo/equivalence/relation.py) or as text
(algo/equivalence/text.py). A suffix overrides it: tag/text, regex:PATTERN/math.

For every format: text before the last </think> is thinking; after an answer, text from a next turn's mark on is
ignored; a response without an answer casts no vote and earns 0. Time is linear in the length of the response; your
pattern gets about PATTERN_SECONDS; a response that takes longer has no answer, with a warning. MAX_SLOW such responses
end the run, as does any error in your function.

Degenerate cases: a choice that is none of the options, or two, states nothing; without options, a letter from A to Z is
one. A truncated response still has a last number: the format "number" cannot tell it from a complete one. An exponent
belongs to its number (2^10), or to a unit and is none.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import regex  # like re, with a time limit

from co_rewarding.algo.answers import (
    NEXT_TURN,
    TextAnswer,
    after_thinking,
    extract_answer,
    ground_truth_answer,
    is_placeholder,
)
from co_rewarding.algo.equivalence.text import text_key
from co_rewarding.algo.own_function import (
    OwnFunctionError,
    absolute,
    call,
    is_own_function,
    line_of,
    load_function,
)

Equality = Literal["math", "text"]
Find = Callable[[str, Sequence[str]], "str | None"]

BOXED = "boxed"
CHOICE = "choice"
REGEX = "regex:"
PATTERN_SECONDS = 1.0
MAX_SLOW = 30  # responses on which a pattern may take that long before the run ends
MAX_STATEMENT_CHARS = 200  # of what follows "the answer is"
MAX_STATEMENTS = 200  # read from the beginning of a response, and as many from its end

_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # letters that are written beside a number without a space
_SIGN = rf"(?<![^\W{_CJK}])(?<![.^])(?<!\^\{{)(?<!\^-)(?<!\^\{{-)(?:[-−–]?(?:\\?\$|[€£¥])?)"  # no exponent, no H2
_DIGITS = (
    r"(?:(?:[0-9]{1,3}(?:(?:,|\{,\}|\\,|,\\!)[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+\b)?"
)
_POWER = r"\^(?:\{[-−]?[0-9]+\}|[-−]?[0-9]+)"
_FRACTION = r"\\[dt]?frac(?:\{ ?-?[0-9]+ ?\}\{ ?[0-9]+ ?\}|[0-9][0-9](?![0-9]))"
_NUMBER = re.compile(
    rf"{_SIGN}(?:[0-9]*{_FRACTION}"
    rf"|{_DIGITS}(?:{_POWER}| ?(?:\\times|\\cdot|[×*x]) ?10{_POWER}|(?: [0-9]+)? ?/ ?[0-9]+)?)"
)
_SET_NUMBER = re.compile(r"\\?\$|[€£¥]|\{,\}|\\,|,\\!|,")  # what only sets a number
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_STATEMENT = re.compile(
    r"(?<!other )(?<!wrong )(?<!incorrect )\b(?:answer|option|choice)\b[ \t*_]{0,4}"
    r"(?:(?:to|for|among) [\w ]{1,40}?)?(?:\b(?:is|(?:would|should|must) be)\b|[:：=])"
    r"|(?<!错误)(?<!错误的)(?:答案|选项)(?:应该?|就)?(?:[】*_ \t]{1,4}|[:：是为])"
    r"|(?<![不没未若])选择?(?=[ :：*(（$\\{]{0,8}[A-Za-zＡ-Ｚ])"
    r"|<answer>"
    r"|(?=\b[A-Z]\b[)*_]{0,3} is the (?:correct|right|best) (?:answer|option|choice))"
    r"|\b(?:option|choice)[ *_]{1,3}(?=\(?[A-Z]\b[)*_]{0,3} is (?:correct|right)\b)",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"[ :：]*(?:(?:(?:the|correct|answer|option|choice|is)\b|答案|选项|是|为|选)[ :：]*)*", re.IGNORECASE
)
_BETWEEN = " \t\r\n*_:：是为】\"'“‘"  # a statement and what is stated
_LONE_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\]]?[.:、。]?")
_WITH_TEXT = re.compile(r"[(\[]?([A-Za-z])\b[)\].:、, ]*[-–— ]*(.*)", re.DOTALL)
_LEADING_LETTER = re.compile(r"(?![A-Z]\.[A-Z](?:\.|$))[(\[]?([A-Z])[)\].:、] ?\S")
_FIRST_LETTER = re.compile(r"[(\[]([A-Za-z])[)\]]|([A-Z])(?![\w'’]|\.[A-Z]\.)|([a-z])\)")
_ANOTHER = re.compile(
    r"[)\]*_ ]*(?:[,，/、&]|\b(?:and|or)\b|[和或及与])[ *_]*[(\[]?[A-Z](?![\w'’])"
)  # letter beside it
_FONT = re.compile(r"\\(?:text|math)[a-z]*|\\(?:bf|bold|boldsymbol|underline)(?![A-Za-z])|[{}$*`]")
_SPACE = re.compile(r"\\q?quad(?![A-Za-z])|\\[ ,;:!]|~")


@dataclass(frozen=True)
class AnswerFormat:
    """One format; made by `answer_format`."""

    spec: str  # as in the data; says how answers are compared, see `recorded`
    instruction: str  # the system prompt that asks for it; "" if only its author knows it
    find: Find  # (response, options) -> the answer as written, None for none
    asked: re.Pattern[str]  # the text by which a prompt asks for it

    def extract(self, response: str, choices: Sequence[str] = ()) -> str | None:
        """ans(y): the answer that the response states, None if it states none."""
        return recorded(self.find(response, choices), self.spec)

    def truth(self, text: str | None, choices: Sequence[str] = ()) -> str | None:
        """The answer in a ground-truth field, raw or written as in a response; None if missing."""
        return truth_of(text, self.spec, choices)

    def is_asked_in(self, prompt: str) -> bool:
        """Whether a prompt recognisably asks for it."""
        return self.asked.search(prompt) is not None


@lru_cache(maxsize=256)
def answer_format(spec: str | None) -> AnswerFormat:
    """The format that a row names; None and "" are the default.

    Raises:
        ValueError: unknown name, invalid pattern, or a function that cannot be loaded.
    """
    spec = spec or BOXED
    name, equality = _parts(spec)
    if name in _FORMATS:
        _, instruction, find, asked = _FORMATS[name]
    elif name.startswith(REGEX):
        instruction, find, asked = "", _by_pattern(name.removeprefix(REGEX)), ""
    elif own_function_of(name):
        instruction, find, asked = "", _by_function(name), ""
    else:
        raise ValueError(
            f"answer format {spec!r} is unknown: use {', '.join(_FORMATS)}, {REGEX}PATTERN or "
            "path/to/file.py:function, with the suffix /text or /math for another comparison"
        )
    if name == CHOICE and equality == "math":
        raise ValueError(f"answer format {spec!r}: letters are compared as text; use {CHOICE}")
    return AnswerFormat(spec, instruction, find, re.compile(asked))


def recorded(answer: str | None, spec: str | None) -> str | None:
    """A written answer with its format's comparison; no user function is loaded for that."""
    name, equality = _parts(spec or BOXED)
    usual = _FORMATS[name][0] if name in _FORMATS else "text"
    return TextAnswer(answer) if answer is not None and (equality or usual) == "text" else answer


def truth_of(text: str | None, spec: str | None, choices: Sequence[str] = ()) -> str | None:
    """AnswerFormat.truth without loading a user's function; like a pattern, it is made for responses."""
    raw = ground_truth_answer(text)
    if raw is None:
        return None
    name, _ = _parts(spec or BOXED)
    if name == CHOICE:
        raw = letter_of(raw, choices) or raw
    elif name in ("number", "tag"):
        raw = _FORMATS[name][2](raw, choices) or raw
    return recorded(raw, spec)


def own_function_of(spec: str) -> str | None:
    """The place of the user's function that reads answers in this format; None for other formats."""
    name, _ = _parts(spec)
    return None if name in _FORMATS or name.startswith(REGEX) or not is_own_function(name) else name


def label_of_format(spec: str) -> str:
    """The format without the folder of a user's function."""
    own = own_function_of(spec)
    return f"{Path(own.rpartition(':')[0]).name}:{own.rpartition(':')[2]}{spec[len(own) :]}" if own else spec


def absolute_spec(spec: str) -> str:
    """The format with an absolute path, for a process in another folder."""
    own = own_function_of(spec)
    return absolute(own) + spec[len(own) :] if own else spec


def _parts(spec: str) -> tuple[str, str | None]:
    """The format's name, and the equality that it is given."""
    name, mark, tail = spec.rpartition("/")
    return (name, tail) if mark and tail in get_args(Equality) else (spec, None)


def letter_of(stated: str, choices: Sequence[str] = ()) -> str | None:
    """The letter of the stated option: given by letter, B or (B), by text, or by both, B. Paris.

    Args:
        choices: texts of the options, the first is A; empty if unknown.

    Returns:
        None for no option, or the text of several.
    """
    letters = [chr(ord("A") + i) for i in range(len(choices) or 26)]
    key, bare = text_key(stated), _LABEL.sub("", _plain(stated), count=1)
    if (lone := _LONE_LETTER.fullmatch(bare)) and lone.group(1).upper() in letters:
        return lone.group(1).upper()
    keys = _keys(tuple(choices))
    with_that_text = [letter for letter, choice in zip(letters, keys, strict=False) if choice == key]
    if with_that_text:
        return with_that_text[0] if len(with_that_text) == 1 else None
    if (both := _WITH_TEXT.match(bare)) and dict(zip(letters, keys, strict=False)).get(both[1].upper()) == text_key(
        both[2]
    ):
        return both[1].upper()
    leading = _LEADING_LETTER.match(bare)
    if not leading or leading[1] not in letters or _ANOTHER.match(bare, leading.end(1)):
        return None
    return leading[1]


def _plain(text: str) -> str:
    r"""Without what only sets it: \text{...}, dollars, asterisks, spaces around it."""
    text = unicodedata.normalize("NFKC", text[:MAX_STATEMENT_CHARS])
    return re.sub(r"\\(?![A-Za-z])", "", _FONT.sub("", _SPACE.sub(" ", text))).strip()


@lru_cache(maxsize=256)
def _keys(choices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(text_key, choices))


def _last(text: str, matches: Iterable[tuple[int, int, str]]) -> str | None:
    """The last text at (start, end), stripped; skips placeholders, and all text after an answer's next turn mark."""
    answer, end = None, len(text)
    for start, stop, content in matches:
        if start >= end:
            break
        content = content.strip()
        if content and not is_placeholder(content):
            if answer is None and (turn := NEXT_TURN.search(text, stop)):
                end = turn.start()
            answer = content
    return answer


def _boxed(response: str, _choices: Sequence[str]) -> str | None:
    return extract_answer(response)


def _number(response: str, _choices: Sequence[str]) -> str | None:
    text = after_thinking(response)
    found = _last(text, ((match.start(), match.end(), match.group()) for match in _NUMBER.finditer(text)))
    return None if found is None else re.sub("[−–]", "-", _SET_NUMBER.sub("", found))


def _tag(response: str, _choices: Sequence[str]) -> str | None:
    text = after_thinking(response)
    return _last(text, _tagged(text))


def _tagged(text: str) -> Iterable[tuple[int, int, str]]:
    opened = None
    for tag in _TAG.finditer(text):
        if not tag.group(1):
            opened = tag.end()
        elif opened is not None:
            yield opened, tag.end(), text[opened : tag.start()]
            opened = None


def _choice(response: str, choices: Sequence[str]) -> str | None:
    boxed = extract_answer(response)
    if boxed is not None:
        return letter_of(boxed, choices)
    text = after_thinking(response)
    return _last(text, _stated_letters(text, choices)) or _option_alone(text.strip(), choices)


def _option_alone(text: str, choices: Sequence[str]) -> str | None:
    """The option if the response is only its letter, its text, or both; a list of options is none."""
    if "\n" in text or len(text) > MAX_STATEMENT_CHARS:
        return None
    letter, bare = letter_of(text, choices), _plain(text)
    if letter is None or _LONE_LETTER.fullmatch(bare):
        return letter
    option, both = dict(enumerate(_keys(tuple(choices)))).get(ord(letter) - ord("A")), _WITH_TEXT.match(bare)
    return letter if option in (text_key(text), text_key(both[2]) if both else None) else None


def _stated_letters(text: str, choices: Sequence[str]) -> Iterable[tuple[int, int, str]]:
    statements = list(_STATEMENT.finditer(text))
    if len(statements) > 2 * MAX_STATEMENTS:
        statements = statements[:MAX_STATEMENTS] + statements[-MAX_STATEMENTS:]
    for statement in statements:
        line = text[statement.end() : statement.end() + MAX_STATEMENT_CHARS].lstrip(_BETWEEN).split("\n")[0]
        whole = letter_of(line.rstrip(" .*_。\"'”’"), choices)
        line = _plain(line)
        first = _FIRST_LETTER.match(_LABEL.sub("", line, count=1))
        if first and not whole and _ANOTHER.match(first.string, first.end()):
            continue  # "A and C" is no letter
        letter = whole or (letter_of(first[1] or first[2] or first[3], choices) if first else None)
        if letter is not None:
            yield statement.start(), statement.end(), letter


def _by_pattern(pattern: str) -> Find:
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"answer format {REGEX}{pattern}: is no regular expression ({error})") from error
    group, num_slow = 1 if compiled.groups else 0, 0

    def find(response: str, _choices: Sequence[str]) -> str | None:
        nonlocal num_slow
        text = after_thinking(response)
        try:
            matches = list(compiled.finditer(text, timeout=PATTERN_SECONDS))
        except TimeoutError:
            num_slow += 1
            message = f"answer format {REGEX}{pattern}: took {PATTERN_SECONDS:.0f} s on {num_slow} responses"
            if num_slow >= MAX_SLOW:
                raise OwnFunctionError(f"{message}: it backtracks; write it without nested repetitions") from None
            warnings.warn(message, stacklevel=2)
            return None
        return _last(text, ((m.start(), m.end(), m.group(group) or "") for m in matches))

    return find


def _by_function(name: str) -> Find:
    function = load_function(name)
    try:
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
        takes_choices = sum(kind <= inspect.Parameter.VAR_POSITIONAL for kind in kinds) > 1
    except (TypeError, ValueError):  # a builtin without a signature
        takes_choices = False

    def find(response: str, choices: Sequence[str]) -> str | None:
        answer = call(function, name, response, *([list(choices)] if takes_choices else []))
        if answer is not None and not isinstance(answer, str):
            where = line_of(function, name)
            raise OwnFunctionError(f"{where}: returned {answer!r:.60}; return text, or None for no answer")
        return answer.strip() or None if answer is not None else None

    return find


_STEPS = "Let's think step by step and"
_FORMATS: dict[str, tuple[Equality, str, Find, str]] = {  # equality, instruction, how to find it, sign of asking
    BOXED: ("math", rf"{_STEPS} output the final answer within \boxed{{}}.", _boxed, r"\\f?box"),
    CHOICE: (
        "text",
        rf"{_STEPS} output the letter of the correct option within \boxed{{}}.",
        _choice,
        r"(?i)\\f?box|letter|option|choice|answer|选项|答案|字母",
    ),
    "number": ("math", f"{_STEPS} end with the final answer as a number.", _number, ""),
    "tag": ("math", f"{_STEPS} output the final answer within <answer> and </answer>.", _tag, r"(?i)<answer>"),
}
