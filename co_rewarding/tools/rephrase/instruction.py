# SPDX-License-Identifier: Apache-2.0
r"""The instruction to the rewriting model, and parsing of its response (arXiv 2508.00410, x' of x).

    rewrite(y) = the text between the last begin marker of y and the first end marker after it

The paper's pairs come from an instruction to a strong model: new wording or setting, same mathematics and same answer,
the result between two markers. The instruction here has the same intent in different words.

Failures, each with its own name: no marker, a begin without an end (cut off at the token limit or not), thinking that
never ends, nothing between the markers. The *last* begin marker counts, because models tend to repeat the instruction's
example first. Thinking, up to the last </think>, is ignored. A question that contains a marker would look like a
rewrite and is never sent. Time is linear in the response's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from co_rewarding.tools.cli import UserError
from co_rewarding.tools.data.markers import BEGIN_MARKER, END_MARKER, Markers, loose_pattern

QUESTION_SLOT = "{question}"

INSTRUCTION = """\
Below is a mathematics question. Write a second version of it, for somebody who must not recognise the first one but \
has to arrive at exactly the same answer.

What has to stay the same:
- every number, unit, condition and formula that the answer depends on, and what is asked for;
- the form in which the answer is wanted (a fraction, an interval, a letter of a given choice, ...);
- the language of the question and valid LaTeX wherever the question uses LaTeX;
- any figure: copy code such as [asy] ... [/asy] unchanged, or put everything that it shows into words.

What should change: the sentences, their order, names of people, things and variables and, where it comes naturally, \
the story around the mathematics. A bare formula may stay as it is, with another way of asking for it.

Do not solve the question, do not hint at its answer, do not comment on your version. The new version must be complete \
without the old one. Write it between these two lines and nothing after them:

### BEGIN_REWRITTEN_QUESTION ###
(the complete new version)
### END_REWRITTEN_QUESTION ###

The question:

{question}"""


@dataclass(frozen=True)
class Parsed:
    """Exactly one of the two is set."""

    rewrite: str | None = None
    failure: str | None = None  # a name in PARSE_FAILURES


PARSE_FAILURES = {
    "missing_markers": "the response has no begin marker",
    "missing_end_marker": "the rewrite has no end marker",
    "truncated": "the response reached its token limit before the end marker",
    "unfinished_thinking": "the response's thinking never ended",
    "empty": "nothing between the markers",
}


@dataclass(frozen=True)
class Instruction:
    """A text with one slot for the question, and the markers that it requests."""

    template: str = INSTRUCTION
    markers: Markers = field(default_factory=Markers)

    def __post_init__(self) -> None:
        if (slots := self.template.count(QUESTION_SLOT)) != 1:
            raise UserError(f"the instruction has {QUESTION_SLOT} {slots} times: it must have it once")
        for name, marker in (("begin", self.markers.begin), ("end", self.markers.end)):
            if not marker.strip():
                raise UserError(f"the {name} marker is empty: use a line of text")
            if not re.search(loose_pattern(marker), self.template, re.IGNORECASE):
                raise UserError(
                    f"the instruction does not contain the {name} marker {marker!r}: add it, or set --{name}_marker"
                )
        if self.markers.begin == self.markers.end:
            raise UserError(f"both markers are {self.markers.begin!r}: use two different ones")

    @classmethod
    def from_file(cls, path: Path | None, markers: Markers) -> Instruction:
        """The instruction in `path`, or ours if it is None.

        Raises:
            UserError: the file cannot be read, or lacks the slot or a marker.
        """
        if path is None:
            template = INSTRUCTION.replace(BEGIN_MARKER, markers.begin).replace(END_MARKER, markers.end)
            return cls(template, markers)
        try:
            template = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"--instruction_file {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UserError(f"--instruction_file {path} is not UTF-8 text: convert it") from None
        try:
            return cls(template, markers)
        except UserError as error:
            raise UserError(f"--instruction_file {path}: {error}") from None

    def messages(self, question: str) -> list[dict[str, str]]:
        """The conversation that asks for a rewrite of `question`, inserted unchanged."""
        return [{"role": "user", "content": self.template.replace(QUESTION_SLOT, question)}]

    def parse(self, response: str, reached_limit: bool = False) -> Parsed:
        """The rewrite in `response`, stripped, or the reason for none. `reached_limit`: cut at its token limit."""
        head, closing, tail = response.rpartition("</think>")
        if closing:
            response = tail
        elif head or "<think>" in response:
            return Parsed(failure="unfinished_thinking")
        begins = list(re.finditer(loose_pattern(self.markers.begin), response, re.IGNORECASE))
        if not begins:
            return Parsed(failure="truncated" if reached_limit else "missing_markers")
        rest = response[begins[-1].end() :]
        end = re.search(loose_pattern(self.markers.end), rest, re.IGNORECASE)
        if end is None:
            return Parsed(failure="truncated" if reached_limit else "missing_end_marker")
        rewrite = rest[: end.start()].strip()
        return Parsed(rewrite=rewrite) if rewrite else Parsed(failure="empty")
