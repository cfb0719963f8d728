# SPDX-License-Identifier: Apache-2.0
"""The model card: README.md of an exported model, made of what its run left (templates/model_card.md.jinja).

Method, base model, data, settings that differ from the paper's, curves, results of the training run and of evaluations
of exactly these weights (by their fingerprint), versions, commit; the head has them for the hub. What is not known is
not said. Paths of the machine are shortened to their last two parts, since a card is made to be shared. Nothing is
asked of a network.

The last line holds a hash of the text above it. A card whose text is another one was edited by hand and is not written
again. Names and answers in a card come from files: they are put on one line, and cannot end a table or a code block.
No date, so that the same export gives the same card.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet as pq
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from omegaconf import DictConfig

from co_rewarding.algo.methods import Method
from co_rewarding.storage import provenance
from co_rewarding.storage.rows import as_paths, file_sha256
from co_rewarding.tools.cli import printable
from co_rewarding.tools.data.card import Card, read_card
from co_rewarding.tools.evaluation.results import METHOD_TITLES, Result, read_result
from co_rewarding.tools.evaluation.tables import make_table, markdown
from co_rewarding.tools.evaluation.tasks import title
from co_rewarding.tools.export.run_config import changed_between, differences, method_of, value_of
from co_rewarding.tools.report.runs import Run
from co_rewarding.tools.report.summary import legend, summary
from co_rewarding.tools.tables import cell, to_markdown
from co_rewarding.tools.templates import source_of

CARD_NAME, CURVES_NAME = "README.md", "training_curves.png"
PAPER = "[arXiv 2508.00410](https://arxiv.org/abs/2508.00410)"
LONGEST_SYSTEM = 2000  # characters
_MARK = re.compile(r"<!-- co-rewarding card ([0-9a-f]{16}) -->\n\Z")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

WHAT_IT_DOES = {
    "co_rewarding_I": "every question is asked in two wordings, and the majority answer to one rewards the answers to "
    "the other",
    "co_rewarding_II": "the majority answer of a teacher, a slowly moving average of the model, rewards the model’s "
    "answers",
    "co_rewarding_III": "every question is asked in two wordings, and the majority answer of a teacher, a slowly "
    "moving average of the model, to one rewards the model’s answers to the other",
    "ground_truth": "the known answer rewards (a baseline, not label-free)",
    "majority_voting": "the model’s own majority answer rewards (a baseline)",
    "self_certainty": "the model’s certainty of its own tokens rewards (a baseline)",
    "entropy": "a low entropy of the model’s own distribution rewards (a baseline)",
    "random": "a random reward (a control)",
    "format_only": "any boxed answer is rewarded (a control)",
    "incorrect": "wrong answers are rewarded (a control)",
}


@dataclass(frozen=True)
class Export:
    """What was exported."""

    run: Run  # up to the exported step
    configs: Sequence[DictConfig]  # of its starts, see run_config.configs_of
    step: int
    weights: str  # student or teacher
    dtype: str
    made_with: Sequence[Mapping[str, Any]]  # of those starts that noted it, see co_rewarding.storage.provenance

    @property
    def config(self) -> DictConfig:
        return self.configs[-1]

    @property
    def method(self) -> Method:
        return method_of(self.config)

    @property
    def method_title(self) -> str:
        return METHOD_TITLES.get(self.method.name, self.method.name)


def card_text(export: Export, evaluations: Iterable[Path], fingerprint: str, has_curves: bool) -> str:
    """The card.

    Args:
        evaluations: results of any models; those of the model with this fingerprint get onto the card.

    Raises:
        ValueError: one line: the run's method is not known, or a result is broken.
    """
    base, base_on_hub = base_model(export.config)
    data = _data_files(export.config)
    row = _first_row(export.config)
    licence = _licence(export.config)
    results = _results(export, evaluations, fingerprint)
    eval_results, evaluation = _evaluation(results)
    name = export.method.name
    head = ModelCardData(
        **licence,
        base_model=base if base_on_hub else None,
        datasets=list(dict.fromkeys(card.source for *_, card in data if card and _HUB_NAME.fullmatch(card.source)))
        or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[
            "co-rewarding",
            "reinforcement-learning",
            "grpo",
            "verl",
            *(["math"] if row.get("ability") == "math" else []),
        ],
        model_name=_title(export) if eval_results else None,
        eval_results=eval_results or None,
        co_rewarding={"method": name, "weights": export.weights, "step": export.step},
    )
    facts = [
        ("base model", f"[{base}](https://huggingface.co/{base})" if base_on_hub else _code(base)),
        # a method of the user's is described by its name alone, and not by the paper
        ("method", f"{export.method_title}: {WHAT_IT_DOES[name]}" if name in WHAT_IT_DOES else name),
        ("weights", f"{export.weights} after {export.step} steps, {export.dtype}"),
        ("run", _code(export.run.name)),
        *((words, _file_in_words(path, card)) for words, path, card in data),
    ]
    system = _system_message(row)
    whose = "the student’s, " if export.weights == "teacher" else ""
    page = ModelCard.from_template(
        head,
        template_str=source_of("model_card.md"),
        title=cell(_title(export)),
        method=cell(export.method_title),
        origin=_origin(export.method),
        is_teacher=export.weights == "teacher",
        facts=_table(("", "this model"), facts),
        system=repr(system) if system else None,
        without_system=system == "",
        settings=_table(("setting", "this run", "paper (Table 5, Eq. 4)"), differences(export.config, export.method)),
        changes=[cell(change) for change in changed_between(export.configs)],
        num_starts=len(export.configs),
        curves=CURVES_NAME if has_curves else None,
        training=_table(
            ("", f"{whose}up to step {export.step}"), list(summary(export.run).items()) if has_curves else []
        ),
        legend=legend([export.run]),
        evaluation=evaluation,
        made_with="\n".join(map(cell, _made_with(export))),
        licence=licence.get("license_name", licence.get("license")),
    )
    text = f"{page}\n"
    return text + f"<!-- co-rewarding card {_hash(text)} -->\n"


def is_edited(text: str) -> bool:
    """Whether a card is not, or no longer, what `card_text` wrote."""
    mark = _MARK.search(text)
    return mark is None or mark[1] != _hash(text[: mark.start()])


def base_model(config: DictConfig) -> tuple[str, bool]:
    """Name of the model that the run started from, and whether that is a name on the hub.

    OWNER/NAME may be either, a name on the hub or a folder as seen from where the run was started. It is the hub's if
    this machine loaded it from there; where that is not known it gets no link, which might be somebody else's.
    """
    path = _model_path(config)
    on_hub = _HUB_NAME.fullmatch(path) and not Path(path).exists() and _cached(path, "config.json")
    return (path, True) if on_hub else (Path(path).name, False)


def _model_path(config: DictConfig) -> str:
    return str(value_of(config, "actor_rollout_ref.model.path") or "not known").rstrip("/")


def _cached(name: str, file: str) -> Path | None:
    """A file that this machine loaded from the hub."""
    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _licence(config: DictConfig) -> dict[str, str]:
    """The base model's licence in the hub's words, if its card is on this machine and says it."""
    name, on_hub = base_model(config)
    card = _cached(name, CARD_NAME) if on_hub else Path(_model_path(config)) / CARD_NAME
    try:
        data = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data if card else {}
    except (OSError, ValueError, TypeError, yaml.YAMLError, RecursionError):
        return {}
    found = {key: data.get(key) for key in ("license", "license_name", "license_link")}
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{,39}", str(found["license"])):
        return {}
    if not str(found["license_link"]).startswith("https://"):
        del found["license_link"]  # a file beside that card
    return {key: printable(text, 200) for key, text in found.items() if isinstance(text, str)}


def _title(export: Export) -> str:
    base = base_model(export.config)[0].rpartition("/")[2]
    return f"{base}, {export.method_title}, {export.weights} of step {export.step}"


def _origin(method: Method) -> str:
    if method.name not in WHAT_IT_DOES or method.is_control:
        return ""
    return f", {'as described in' if method.name.startswith('co_rewarding') else 'a baseline of'} {PAPER}"


def _made_with(export: Export) -> list[str]:
    """What trained, if the run noted it, and what exported."""
    trained = dict.fromkeys(map(provenance.in_words, export.made_with))
    exported = provenance.in_words(provenance.here())
    if list(trained) == [exported]:
        return [f"Trained and exported with {exported}."]
    return [*(f"Trained with {words}." for words in trained), f"Exported with {exported}."]


# --- evaluations


def _results(export: Export, paths: Iterable[Path], fingerprint: str) -> dict[Path, Result]:
    """The results of the exported weights, called after these: a result knows the method, but not the weights."""
    found = {path: read_result(path) for path in paths}
    found = {
        path: result for path, result in found.items() if (result.get("model") or {}).get("fingerprint") == fingerprint
    }
    name = f"{export.method_title}, {export.weights} of step {export.step}"
    return {
        path: result
        | {
            "method": None,
            "base_model": None,
            "name": name if len(found) == 1 else f"{name} ({printable(result['name'], 100)})",
        }
        for path, result in found.items()
    }


def _evaluation(results: Mapping[Path, Result]) -> tuple[list[EvalResult], str]:
    """For the head and for the page; nothing without results."""
    try:
        for_head = [found for result in results.values() for found in _eval_results(result)]
        return for_head, markdown(make_table(list(results.items()))).strip() if results else ""
    except (KeyError, TypeError, AttributeError) as error:
        paths = ", ".join(map(str, results))
        raise ValueError(f"{paths}: not a whole result ({type(error).__name__}: {error}); evaluate again") from error


def _eval_results(result: Result) -> list[EvalResult]:
    """The first number of each task in the form that the hub reads."""
    found = []
    for task, entry in result["tasks"].items():
        metric = entry["primary"]
        if metric is None:
            continue
        rows = entry.get("num_rows") or entry["questions"]
        part = f", {entry['questions']} of {rows} questions" if entry["questions"] < rows else ""
        found.append(
            EvalResult(
                task_type="text-generation",
                dataset_type=printable(_data_set(task, entry.get("data") or {}), 100),
                dataset_name=printable(title(task), 100),
                metric_type=metric,
                metric_name=f"{metric}, percent{part}",
                metric_value=round(100 * entry["accuracy"][metric]["value"], 2),
            )
        )
    return found


def _data_set(task: str, data: Mapping[str, Any]) -> str:
    """Where the questions are on the hub, if that is known; else the task's name."""
    card = _card_of(Path(data["file"])) if data.get("file") else None
    source = card.source if card else data.get("dataset")
    return source if isinstance(source, str) and _HUB_NAME.fullmatch(source) else task


# --- data


def _data_files(config: DictConfig) -> list[tuple[str, Path, Card | None]]:
    """What each file of the run was for, where it is, and its data card."""
    found = []
    for key, words in (
        ("data.train_files", "trained on"),
        ("data.train_aug_files", "rephrased questions"),
        ("data.val_files", "validated on"),
    ):
        for name in as_paths(value_of(config, key) or []):
            path = Path(name).expanduser()
            found.append((words, path, _card_of(path)))
    return found


def _card_of(path: Path) -> Card | None:
    try:
        card = read_card(path.parent)
    except (OSError, ValueError):  # a README.md of another kind
        return None
    return card if card and path.name in card.files else None


def _file_in_words(path: Path, card: Card | None) -> str:
    facts = [_code("/".join(path.parts[-2:]))]
    try:
        facts += [f"{pq.read_metadata(path).num_rows:,} rows", f"SHA-256 {file_sha256(path)[:16]}…"]
    except (OSError, pyarrow.ArrowException):  # gone, or not parquet
        return facts[0]
    return ", ".join(facts + ([f"{card.title} ({card.source}; licence: {card.licence})"] if card else []))


def _first_row(config: DictConfig) -> dict[str, Any]:
    """The first row of what the run trained on; {} if it cannot be read any more."""
    files = as_paths(value_of(config, "data.train_files") or [])
    try:
        with pq.ParquetFile(Path(files[0]).expanduser()) as file:
            return next(file.iter_batches(batch_size=1, columns=["prompt", "ability"])).to_pylist()[0]
    except (IndexError, StopIteration, OSError, pyarrow.ArrowException):
        return {}


def _system_message(row: Mapping[str, Any]) -> str | None:
    """ "" where there is none, None where that is not known."""
    try:
        text = next((message["content"] for message in row["prompt"] if message["role"] == "system"), "")
    except (KeyError, TypeError):
        return None
    return text if isinstance(text, str) and len(text) <= LONGEST_SYSTEM else None


# --- Markdown


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return to_markdown(pd.DataFrame(rows, columns=head)) if rows else ""


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
