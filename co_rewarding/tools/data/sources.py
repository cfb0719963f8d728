# SPDX-License-Identifier: Apache-2.0
"""The published sets, one entry each: location, columns and number of rows.

loading.py loads the rows, prepare.py writes them. SOURCES[NAME] has the command scripts/data_preprocess/NAME.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from co_rewarding.storage.ground_truths import boxed_truth, hash_mark_truth, number_truth, optional_truth, text_truth

# data_source of rows that may be used locally but not shared under any name or card
NOT_TO_BE_SHARED = frozenset({"AI-MO/aimo-validation-amc"})


@dataclass(frozen=True)
class Split:
    """A part of a set."""

    name: str  # on the hub
    role: Literal["train", "test"]  # its use here; also extra_info.split
    num_rows: int  # documented; checked
    hub_files: str  # pattern of its files in the hub repository
    questions_sha256: str | None = None  # content_sha256 of the questions in order; None: unknown, not checked

    @property
    def output(self) -> str:
        """Name of its parquet file."""
        return {"train": "train_original.parquet", "test": "test.parquet"}[self.role]


@dataclass(frozen=True)
class Source:
    """A set. `truth` raises ValueError, without naming the row, for an answer that it cannot read."""

    folder: str  # below data/
    title: str
    about: str  # for --help: the paper and notes for users
    repo_id: str  # on the hub; also the rows' data_source
    revision: str  # commit
    licence: str  # according to the hub's page or the authors; one phrase
    licence_id: str  # the hub's identifier
    question: str  # column with the question, used unchanged
    answer: str  # column of the ground truth
    truth: Callable[[Any], str]  # reads it
    splits: tuple[Split, ...]
    config: str | None = None
    extra: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # column here: column there, and its template

    @property
    def may_be_shared(self) -> bool:
        return self.repo_id not in NOT_TO_BE_SHARED

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns read."""
        return (self.question, self.answer, *(column for column, _ in self.extra.values()))


SOURCES: dict[str, Source] = {
    "math_dataset": Source(
        folder="math",
        title="MATH",
        about="Hendrycks et al., arXiv 2103.03874: questions with worked solutions. The hashes are those of the "
        "published Co-rewarding files, so that their rephrased file pairs up with what this writes. Two training rows "
        "(5341, 5343) have no ground truth there. MATH-500 is part of the test split.",
        repo_id="DigitalLearningGmbH/MATH-lighteval",
        revision="0530c78699ea5e8eb5530600900e1f328b48acad",
        licence="MIT, as the authors' repository github.com/hendrycks/math says",
        licence_id="mit",
        question="problem",
        answer="solution",
        truth=boxed_truth,
        splits=(
            Split(
                "train",
                role="train",
                num_rows=7500,
                hub_files="data/train-*.parquet",
                questions_sha256="14bd4891872ebc7dec0ed3a13fead85b131f544968f84a8e81015d31769cf670",
            ),
            Split(
                "test",
                role="test",
                num_rows=5000,
                hub_files="data/test-*.parquet",
                questions_sha256="9cfa795124e38097056e72092dc7e48f025d76d5b3b7140073d7bad65e78eb88",
            ),
        ),
        extra={"level": ("level", "{}"), "type": ("type", "{}")},
    ),
    "dapo": Source(
        folder="dapo",
        title="DAPO-14k",
        about="The English part of DAPO-Math-17k (arXiv 2503.14476), without repetitions; answers are integers. The "
        "published Co-rewarding files hold 14,109 of the 14,116 questions: 7 were dropped when they were rephrased "
        "(extra_info.index 1308, 6331, 6836, 7695, 9827, 9844, 10655). Their data_source is MATH's; here it is the "
        "set's own.",
        repo_id="open-r1/DAPO-Math-17k-Processed",
        config="en",
        revision="31dd309567e3da778038cc87d868b6097a3ccf68",
        licence="the processed set names none; its origin BytedTsinghua-SIA/DAPO-Math-17k is under Apache-2.0",
        licence_id="apache-2.0",
        question="prompt",
        answer="solution",
        truth=text_truth,
        splits=(Split("train", role="train", num_rows=14116, hub_files="en/train-*.parquet"),),
    ),
    "openrs": Source(
        folder="openrs",
        title="OpenRS",
        about="Dang and Ngo, arXiv 2503.16219: training questions. One has no answer; it is kept without ground truth.",
        repo_id="knoveleng/open-rs",
        revision="8de2b2d11162d97b45c7606902eae2bb1ff629b4",
        licence="MIT, as its page on the hub says",
        licence_id="mit",
        question="problem",
        answer="answer",
        truth=optional_truth,
        splits=(Split("train", role="train", num_rows=7000, hub_files="data/train-*.parquet"),),
    ),
    "gsm8k": Source(
        folder="gsm8k",
        title="GSM8K",
        about="Cobbe et al., arXiv 2110.14168: its test questions, for evaluation.",
        repo_id="openai/gsm8k",
        config="main",
        revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
        licence="MIT, as its page on the hub says",
        licence_id="mit",
        question="question",
        answer="answer",
        truth=hash_mark_truth,
        splits=(Split("test", role="test", num_rows=1319, hub_files="main/test-*.parquet"),),
    ),
    "math500": Source(
        folder="math500",
        title="MATH-500",
        about="Lightman et al., arXiv 2305.20050: questions of MATH's test split, for evaluation. Part of "
        "data/math/test.parquet: a checkpoint chosen by that file is not judged independently by this one.",
        repo_id="HuggingFaceH4/MATH-500",
        revision="ff5b20257d8185524591543f8ff5993951537bb8",
        licence="none on its page on the hub; its questions are MATH's, under MIT",
        licence_id="mit",
        question="problem",
        answer="answer",
        truth=text_truth,
        splits=(Split("test", role="test", num_rows=500, hub_files="test.jsonl"),),
        extra={"level": ("level", "Level {}"), "type": ("subject", "{}")},  # as in MATH's files
    ),
    "amc": Source(
        folder="amc",
        title="AMC 12, 2022 and 2023",
        about="Contest questions whose answers are numbers, for evaluation. They are the Mathematical Association of "
        "America's: they may be downloaded for local use, and are not shared.",
        repo_id="AI-MO/aimo-validation-amc",
        revision="8ef249608d65c2de7763ca7525f438e540ba285e",
        licence="none on its page on the hub; the questions are the Mathematical Association of America's",
        licence_id="other",
        question="problem",
        answer="answer",
        truth=number_truth,
        splits=(Split("train", role="test", num_rows=83, hub_files="data/train-*.parquet"),),
    ),
}
"""Name of the command in scripts/data_preprocess -> its set."""
