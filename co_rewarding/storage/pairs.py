# SPDX-License-Identifier: Apache-2.0
"""Do two files hold the same questions in two wordings? (paper Algorithm 1 pairs x with its rephrasing x')

Rows pair up by position, so the files must have the same rows in the same order with only the wording changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MAX_NAMED = 3  # rows named in a message
PAIR_COLUMNS = ("extra_info.index", "reward_model.ground_truth")  # all that check_pairs reads of a row


def as_paths(files: str | Sequence[str]) -> list[str]:
    """The paths of a data setting, which may be one path or a list of them, as a list."""
    return [files] if isinstance(files, str) else list(files)


def ground_truth(row: Mapping[str, Any]) -> str:
    """The row's ground truth, "" where it has none (label-free data)."""
    truth = (row.get("reward_model") or {}).get("ground_truth")
    return "" if truth is None else str(truth)


def question_id(row: Mapping[str, Any]) -> Any:
    """`extra_info.index` of the row, None where it has none."""
    return (row.get("extra_info") or {}).get("index")


def check_question_ids(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Raise unless every row has an id of its own: rollouts of rows with one id would be taken for one group.

    Raises:
        ValueError: one line naming the file and the first rows whose `extra_info.index` is missing or repeated.
    """
    ids = [question_id(row) for row in rows]
    _raise_for(
        [i for i, q in enumerate(ids) if q is None],
        lambda i: f"row {i}",
        f"{name}: rows without extra_info.index, the id of a question; add one to each row (of both files of a pair)",
    )
    first_row: dict[Any, int] = {}
    repeated = [i for i, q in enumerate(ids) if first_row.setdefault(q, i) != i]
    _raise_for(
        repeated,
        lambda i: f"row {i} repeats {ids[i]} of row {first_row[ids[i]]}",
        f"{name}: extra_info.index must be different in every row, also of several files together",
    )


def check_pairs(
    original: Sequence[Mapping[str, Any]], rephrased: Sequence[Mapping[str, Any]], names: tuple[str, str]
) -> None:
    """Raise unless row i of `rephrased` is another wording of row i of `original`, for every i.

    Args:
        original, rephrased: rows in verl's schema, P each.
        names: what to call the two files in a message.

    Raises:
        ValueError: one line naming both files, what differs and the first rows that do: unequal length, a question id
            (`extra_info.index`) that is missing, repeated or different, or another ground truth where both have one.
    """
    both = f"{names[0]} and {names[1]}"
    if len(original) != len(rephrased):
        raise ValueError(
            f"{both} do not pair up: {len(original)} and {len(rephrased)} rows; "
            "both files must have the same rows in the same order"
        )
    check_question_ids(original, names[0])
    ids = [question_id(row) for row in original]
    _raise_for(
        [i for i, (a, b) in enumerate(zip(original, rephrased, strict=True)) if question_id(a) != question_id(b)],
        lambda i: f"row {i}: {ids[i]} and {question_id(rephrased[i])}",
        f"{both} do not pair up: extra_info.index differs; bring the rows of both files into the same order",
    )
    truths = [(ground_truth(a), ground_truth(b)) for a, b in zip(original, rephrased, strict=True)]
    _raise_for(
        [i for i, (a, b) in enumerate(truths) if a and b and a != b],
        lambda i: f"row {i}: {truths[i][0]!r} and {truths[i][1]!r}",
        f"{both} do not pair up: the ground truth differs; a rephrased question must keep its answer",
    )


def _raise_for(rows: Sequence[int], describe: Any, problem: str) -> None:
    if rows:
        more = f" and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
        raise ValueError(f"{problem} ({'; '.join(describe(i) for i in rows[:MAX_NAMED])}{more})")
