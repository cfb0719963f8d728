# SPDX-License-Identifier: Apache-2.0
r"""The spelling of an answer: typography removed, the rest cut into tokens.

    tokens(r"\left( \dfrac12 , x² \right).") = ( \frac { 1 } { 2 } ", " x ^ { 2 } )

Removed, since no reader takes it for mathematics: \left, \displaystyle, \boldsymbol, colours, spaces, math delimiters,
currency and percent signs. Several spellings of one thing become one: \dfrac and \over are \frac, ½ is \frac{1}{2}, –
and − are -, x² is x^{2}, √12 is \sqrt{12}, （ is (, 、 and ; are commas, 或 is "or", 1{,}000 is 1000. Nothing else is
removed: the comparison must see words that are on no list.

Deliberately absent: what the tokens mean (reader.py). Time is linear in the length, which MAX_ANSWER_CHARS bounds.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Sequence

MAX_NESTING = 24
"""Deepest nesting of brackets that is read as mathematics."""
OPENING, CLOSING = frozenset(("(", "[", "{", r"\{")), frozenset((")", "]", "}", r"\}"))

_GREEK = """
alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi varphi chi
psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega
"""
_FUNCTIONS = """
sqrt sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch arcsinh arccosh
arctanh log ln lg exp gcd lcm max min det
"""
GREEK, FUNCTIONS = frozenset(_GREEK.split()), frozenset(_FUNCTIONS.split())
# sec, max and min are units and words as well, unless a bracket follows
_WRITTEN_OUT = "|".join(sorted(FUNCTIONS - {"sec", "max", "min", "det"})) + r"|pi|infty|(?:sec|max|min)(?=\s*\()"

_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff]")
_SUPERSCRIPT, _SUBSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+"), re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_FRACTION_SIGN = re.compile("[¼½¾⅐-⅞]")
_COMMAND_OF_SIGN = (
    r"∞\infty ≤\le ≥\ge ⩽\le ⩾\ge ≠\ne ≈\approx ≡\equiv ∪\cup ∩\cap ∈\in ∅\emptyset ∖\setminus ±\pm ∓\mp π\pi ∠\angle "
    r"△\triangle ∆\triangle ⌊\lfloor ⌋\rfloor ⌈\lceil ⌉\rceil ∑\sum ∫\int →\to ℓ\ell "
    r"⟨\langle ⟩\rangle α\alpha β\beta γ\gamma δ\delta ε\epsilon ζ\zeta η\eta θ\theta λ\lambda μ\mu ν\nu "
    r"ξ\xi ρ\rho σ\sigma τ\tau φ\phi χ\chi ψ\psi ω\omega Δ\Delta Σ\Sigma Ω\Omega"
)
_SIGNS = str.maketrans(
    dict.fromkeys("−–—‐‑", "-")
    | dict.fromkeys("⁄∕÷", "/")
    | dict.fromkeys("×·⋅∙∗•", r"\cdot ")
    | dict.fromkeys("′’", "'")
    | dict.fromkeys('£€¥¢₹₩“”"', "")
    | {entry[0]: entry[1:] + " " for entry in _COMMAND_OF_SIGN.split()}
    | dict.fromkeys("°º˚", r"^\circ ")
    | {
        "ℝ": r"\mathbb{R}",
        "ℤ": r"\mathbb{Z}",
        "∛": r"\sqrt[3]",
        "∣": "|",
        "。": ".",
        "、": ", ",
        "或": " or ",
        "和": " and ",
    }
    | {chr(0x2460 + n): f"({n + 1}), " for n in range(20)}  # ① to ⑳
)
_ROOT_SIGN = re.compile(r"√\s*(\d+(?:\.\d+)?|[A-Za-z])?")

_END = r"(?![a-zA-Z])"  # of a command or word
_BARE = r"(?<![\\A-Za-z])"  # a word that is no command
_REWRITES = [  # (pattern, replacement), in this order
    (r"(?<!\A)\s*\.{3,}", r"\\ldots "),
    (r"\\(begin|end)\s*\{(\w+)\*\}", r"\\\1{\2}"),
    (r"\\left\s*\\\{\s*(?=\\begin)", ""),
    (rf"^\s*\\(?:therefore|implies|Rightarrow){_END}", ""),
    (r"^([^{}]*)\\over(?![a-zA-Z])([^{}]*)$", r"\\frac{\1}{\2}"),
    (r":=", "="),
    (r"\\\\\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm)\s*\]", r"\\\\"),
    (
        rf"\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge|ensuremath|mathop|mathopen|mathclose){_END}",
        "",
    ),
    (r"\\tag\*?\s*\{[^{}]*\}", ""),
    (rf"\\(?:left|right)\s*\.|\\(?:left|right|middle|[bB]igg?[lr]?){_END}", ""),
    (rf"\\(?:display|text|script)style{_END}|\\(?:no)?limits{_END}", ""),
    (r"\\[hv]?phantom\s*\{[^{}]*\}|\\(?:text)?color\s*\{[^{}]*\}", ""),
    (rf"\\(?:boldsymbol|bm|math(?:bf|it|sf|tt|cal)|underline|[bf]box|boxed|bf|rm|it){_END}", ""),
    (r"\\(?:text(?:rm|bf|it|sf|tt|normal)?|mbox|hbox|mathrm|operatorname\*?)\s*\{", r"\\text{"),
    (r"\\text\{([^{}]*)\^\{(-?\d)\}\s*\}", r"\\text{\1}^{\2}"),  # \text{cm²}
    (r"\\text\{(?![^{}]*\})", "{"),  # \textbf{\frac{1}{2}}
    (rf"\\text\{{\s*({_WRITTEN_OUT})\s*\}}", r"\\\1 "),
    (r"\\text\{\s*(\d[\d.]*)\s*\}", r"{\1}"),
    (r"(?<=\d)\s*(?:,\s*\\!|\{\s*,\s*\})\s*(?=\d{3})", ""),
    (r"(?<!\\)\\!", ""),
    (rf"\\[hv]space\*?\s*\{{[^{{}}]*\}}|(?<!\\)\\[,;:> \n]|~|\\(?:q?quad|enspace|thinspace|n){_END}", " "),
    (r"(?<!\\)\\[()\[\]]|\\?\$|\\?%", ""),
    (rf"\\lbrace{_END}", r"\\{"),
    (rf"\\rbrace{_END}", r"\\}"),
    (rf"\\(?:langle|lparen){_END}", "("),
    (rf"\\(?:rangle|rparen){_END}", ")"),
    (rf"\\[lr]?[Vv]ert{_END}|\\mid{_END}", "|"),
    (rf"\\[dtc]frac{_END}", r"\\frac"),
    (rf"\\[dt]binom{_END}", r"\\binom"),
    (rf"\{{([^{{}}]*)\\over{_END}([^{{}}]*)\}}", r"\\frac{\1}{\2}"),
    (rf"\{{([^{{}}]*)\\choose{_END}([^{{}}]*)\}}", r"\\binom{\1}{\2}"),
    (rf"\\(le|ge)(?:q|slant|qslant){_END}", r"\\\1 "),
    (rf"\\neq{_END}|!=(?!=)", r"\\ne "),
    (r"<=(?!=|>)", r"\\le "),
    (r">=(?!=)", r"\\ge "),
    (r"(?<=[)\]])\s*U\s*(?=[(\[])", r"\\cup "),
    (rf"{_BARE}(?:oo|inf|infinity){_END}", r"\\infty "),
    (rf"{_BARE}cbrt{_END}", r"\\sqrt[3]"),
    (rf"{_BARE}a(sin|cos|tan){_END}", r"arc\1"),
    (rf"{_BARE}abs\s*\(([^()]*)\)", r"|\1|"),
    (rf"{_BARE}(floor|ceil)\s*\(([^()]*)\)", r"\\l\1 \2\\r\1 "),
    (r"(?<=\d)\s*x\s*(?=10\s*\^)", r"\\cdot "),
    (r"\(\s*(?:\\[pb]?mod(?![a-zA-Z])|(?:\\text\{)?\s*mod\s*\}?)\s*([^(){}]*)\}?\s*\)", r"\\pmod{\1}"),
    (rf"\\text\{{\s*mod\s*\}}|{_BARE}mod{_END}", r"\\bmod "),
    (rf"\\arctg{_END}", r"\\arctan "),
    (rf"\\tg{_END}", r"\\tan "),
    (rf"\\colon{_END}", ":"),
    (rf"\\root\s*(\d)\s*\\of{_END}", r"\\sqrt[\1]"),
    (rf"\\lt{_END}", "<"),
    (rf"\\gt{_END}", ">"),
    (rf"\\varnothing{_END}", r"\\emptyset "),
    (rf"\\div{_END}", "/"),
    (rf"\\(?:times|ast|cdotp){_END}", r"\\cdot "),
    (rf"\^\s*(?:\{{\s*\\circ\s*\}}|\\circ{_END})|\\(?:text)?degree{_END}", "°"),
    (rf"\^\s*(?:\{{(?:\s*\\prime{_END})+\s*\}}|\\prime{_END})", lambda match: "'" * match[0].count("prime")),
    (r"^\s*\*\*(.*?)\*\*[\s.]*$", r"\1"),
    (r"\*\*", "^"),
    (r"\*", r"\\cdot "),
    (rf"{_BARE}({_WRITTEN_OUT}){_END}", r"\\\1 "),
]
_REWRITES = [(re.compile(pattern, re.DOTALL), replacement) for pattern, replacement in _REWRITES]

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_TOKEN = re.compile(
    r"\\text\{[^{}]*\}"
    r"|\d*\.\d*(?:\{?\\(?:overline|bar)\s*\{?\s*\d+\s*\}*|(?:\\dot\s*\{?\d\}?\s*)+|\(\d+\))"  # 0.1\overline{6}, 0.\dot3
    r"|\\(?:begin|end)\s*\{[a-zA-Z]+\}"
    rf"|{_NUMBER}[eE][+-]?\d+(?![\d.A-Za-z])|{_NUMBER}"
    r"|\.{3,}|\\[A-Za-z]+|\\.|[A-Za-z]+|[\u4e00-\u9fff]+|[,;]\s+|\S",
    re.DOTALL,
)
DOTS, _DOTS = r"\ldots", re.compile(r"\.{3,}|\\(?:ldots|dots[bcm]?|cdots)")
_JOINED = re.compile(r"\\text\{[\s,.]*(and|or)?[\s,.]*\}")  # \text{ and }, \text{.}
_NUM_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1, "^": 1, "_": 1}


def tokens(answer: str) -> tuple[str, ...]:
    r"""Numbers, runs of letters, commands, \text{…} in one, single signs; ", " and "," differ: 1, 200 is not 1,200."""
    text = _INVISIBLE.sub("", answer).translate(_SIGNS)
    text = _SUPERSCRIPT.sub(lambda run: f"^{{{unicodedata.normalize('NFKC', run[0])}}}", text)
    text = _SUBSCRIPT.sub(lambda run: f"_{{{unicodedata.normalize('NFKC', run[0])}}}", text)
    text = _FRACTION_SIGN.sub(
        lambda sign: r"\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", sign[0]).split("⁄")), text
    )
    # before NFKC, which makes a plain R of ℝ, and after it, which makes ordinary signs of full-width ones
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = _ROOT_SIGN.sub(lambda root: rf"\sqrt{{{root[1]}}}" if root[1] else r"\sqrt ", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    found = [_token(match[0]) for match in _TOKEN.finditer(_without_end(text))]
    if len(found) > 1:
        found = [DOTS if _DOTS.fullmatch(token) else token for token in found]
    if nesting(found) > MAX_NESTING:
        return tuple(found)
    rest, spelled = deque(found), []
    while rest:
        spelled += _piece(rest)
    return tuple(spelled)


def _without_end(text: str) -> str:
    r"""Without separators, line breaks and a full stop at the end; dots stay."""
    while (shorter := text.rstrip(" \t\n,;\\")) != text or (text.endswith(".") and not text.endswith("..")):
        text = shorter if shorter != text else text[:-1]
    return text


def spaced(found: Sequence[str]) -> str:
    """Tokens as one string; a space stays where it separates: after a command's letters, and between numbers."""
    text = "".join(token.rstrip() + (" " if token[0] == "\\" and token[-1].isalpha() else "\0") for token in found)
    return re.sub(r"(?<=\d)\0(?=\d)", " ", text).replace("\0", "")


def nesting(found: Sequence[str]) -> int:
    depth = deepest = 0
    for token in found:
        depth += turn(token)
        deepest = max(deepest, depth)
    return deepest


def turn(token: str) -> int:
    """1 where a bracket or an environment opens, -1 where one closes."""
    if token in OPENING or token.startswith(r"\begin{"):
        return 1
    return -1 if token in CLOSING or token.startswith(r"\end{") else 0


def _token(text: str) -> str:
    if joined := _JOINED.fullmatch(text):
        return "or" if joined[1] == "or" else ", "
    if text.startswith(r"\text{"):
        return r"\text{" + " ".join(text[6:-1].split()) + "}"
    if text.startswith((r"\begin", r"\end")):
        return "".join(text.split())
    if text in (r"\&", "and"):
        return ", "
    return {";": ";", ",": ", "}[text[0]] if text[0] in ",;" and len(text) > 1 else text


# --- \frac12 becomes \frac{1}{2} and x^2 x^{2}: every argument in its own braces ---


def _piece(rest: deque[str]) -> list[str]:
    """The next token with its arguments, taken off."""
    token = rest.popleft()
    piece = [token]
    if token == r"\sqrt" and rest and rest[0] == "[":
        piece += _group(rest, "[", "]")
    for _ in range(_NUM_ARGUMENTS.get(token, 0)):
        piece += _argument(rest, token)
    return piece


def _argument(rest: deque[str], command: str) -> list[str]:
    if not rest:
        return ["{", "}"]
    if rest[0] == "{":
        return _group(rest, "{", "}")
    if rest[0] == "(" and command in (r"\sqrt", "^", "_"):
        return ["{", *_group(rest, "(", ")")[1:-1], "}"]
    if rest[0] in ("-", "+") and command == "^":
        return ["{", rest.popleft(), *_argument(rest, command)[1:]]
    # TeX takes one sign; but who writes 2^10 or \sqrt12 means the number
    if len(rest[0]) > 1 and (rest[0].isalpha() or (rest[0][0].isdigit() and command in (r"\frac", r"\binom"))):
        token = rest.popleft()
        rest.appendleft(token[1:])
        return ["{", token[0], "}"]
    return ["{", *_piece(rest), "}"]


def _group(rest: deque[str], opening: str, closing: str) -> list[str]:
    """A bracket, its content, and its other half (added if missing)."""
    group = [rest.popleft()]
    while rest and rest[0] != closing:
        group += _group(rest, opening, closing) if rest[0] == opening else _piece(rest)
    if rest:
        rest.popleft()
    return [*group, closing]
