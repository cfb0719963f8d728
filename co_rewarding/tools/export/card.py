# SPDX-License-Identifier: Apache-2.0
"""The model card: README.md of an exported model, made from its run's files (templates/model_card.md.jinja).

Method, base model, data, settings that differ from the paper's, curves, results of the training run and of evaluations
of exactly these weights (by fingerprint), versions, commit; the head has them for the hub. Unknown facts are left out.
Local paths are shortened to their last two parts, since a card is made to be shared. No network is used.

The last line has a hash of the text above it: a card edited by hand is not overwritten. Names and answers in a card
come from files: they are put on one line, and cannot end a table or a code block. No date, so that the same export
gives the same card.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from omegaconf import DictConfig

from co_rewarding.storage import provenance
from co_rewarding.storage.messages import takes_no_system
from co_rewarding.storage.rows import as_paths
from co_rewarding.tools.cli import printable
from co_rewarding.tools.data.card import Card, read_card
from co_rewarding.tools.data.questions import files_sha256, read_table
from co_rewarding.tools.evaluation.model import model_fingerprint
from co_rewarding.tools.evaluation.results import METHOD_TITLES, Result, read_result
from co_rewarding.tools.evaluation.tables import make_table, markdown
from co_rewarding.tools.evaluation.tasks import title
from co_rewarding.tools.export.run_config import changed_between, differences, method_of, value_of
from co_rewarding.tools.generation.vllm_engine import load_tokenizer
from co_rewarding.tools.report.runs import Run
from co_rewarding.tools.report.summary import legend, summary
from co_rewarding.tools.tables import cell, to_markdown
from co_rewarding.tools.templates import source_of

CARD_NAME, CURVES_NAME = "README.md", "training_curves.png"
TAGS = ["co-rewarding", "reinforcement-learning", "grpo", "verl"]
COLUMNS = ["setting", "this run", "paper (Table 5, Eq. 4)"]
LONGEST_SYSTEM = 2000  # characters
_MARK = re.compile(r"<!-- co-rewarding card ([0-9a-f]{16}) -->\n\Z")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Export:
    """What was exported."""

    run: Run  # up to the exported step
    configs: Sequence[DictConfig]  # of its starts, see run_config.configs_of
    step: int
    weights: str  # student or teacher
    dtype: str
    made_with: Sequence[Mapping[str, Any]]  # of the starts that recorded it, see co_rewarding.storage.provenance

    @property
    def method(self) -> str:
        return method_of(self.configs[-1])

    @property
    def method_title(self) -> str:
        return METHOD_TITLES.get(self.method, self.method)

    @property
    def name(self) -> str:
        return f"{self.method_title}, {self.weights} of step {self.step}"


def card_text(export: Export, evaluations: Iterable[Path], folder: Path, has_curves: bool) -> str:
    """The card.

    Args:
        evaluations: results of any models; the card shows those of the exported one.
        folder: of the exported model.

    Raises:
        ValueError: a result is broken.
    """
    config, is_teacher = export.configs[-1], export.weights == "teacher"
    base, base_on_hub = base_model(config)
    title = f"{base.rpartition('/')[2]}, {export.name}"
    licence, data, row = _licence(config), _data_files(config), _first_row(config)
    sources = {card.source: None for *_, card in data if card and _HUB_NAME.fullmatch(card.source)}
    for_head, evaluation = _evaluation(export, evaluations, model_fingerprint(str(folder)))
    system = _system_message(row)
    kwargs = value_of(config, "data.apply_chat_template_kwargs") or {}
    head = ModelCardData(
        **licence,
        base_model=base if base_on_hub else None,
        datasets=list(sources) or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=TAGS + ["math"] * (row.get("ability") == "math"),
        model_name=title if for_head else None,
        eval_results=for_head or None,
        co_rewarding={"method": export.method, "weights": export.weights, "step": export.step},
    )
    texts = {
        "title": title,
        "method": export.method_title,
        "base_model_link": f"[{base}](https://huggingface.co/{base})" if base_on_hub else _code(base),
        "dtype": export.dtype,
        "run": _code(export.run.name),
        "licence": licence.get("license_name", licence.get("license", "")),
    }
    achieved = pd.DataFrame(summary(export.run).items(), columns=["", f"up to step {export.step}"])
    if is_teacher:
        achieved.columns = ["", f"the student’s, {achieved.columns[1]}"]
    differing = differences(config, export.method)
    page = ModelCard.from_template(
        head,
        template_str=source_of("model_card.md"),
        **{name: cell(text) for name, text in texts.items()},
        method_name=export.method,
        weights=export.weights,
        is_teacher=is_teacher,
        step=export.step,
        data_files=[(words, cell(_file_in_words(path, card))) for words, path, card in data],
        system_literal=repr(system) if system else None,
        merged_literal=repr(f"{system}\n\nWhat is 17 + 26?") if system and _merges(folder, kwargs) else None,
        template_arguments="".join(f", {name}={value!r}" for name, value in kwargs.items()),
        own_template=value_of(config, "actor_rollout_ref.model.custom_chat_template"),
        without_system=system == "",
        settings=to_markdown(pd.DataFrame(differing, columns=COLUMNS)) if differing else None,
        changes=[cell(change) for change in changed_between(export.configs)],
        num_starts=len(export.configs),
        curves=CURVES_NAME if has_curves else None,
        training=to_markdown(achieved),
        legend=legend([export.run]),
        evaluation=evaluation,
        made_with="\n".join(map(cell, _made_with(export))),
    )
    text = f"{page}\n"
    return text + f"<!-- co-rewarding card {_hash(text)} -->\n"


def is_edited(text: str) -> bool:
    """Whether a card is not, or no longer, the text of `card_text`."""
    mark = _MARK.search(text)
    return mark is None or mark[1] != _hash(text[: mark.start()])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _made_with(export: Export) -> list[str]:
    trained = dict.fromkeys(f"Trained with {provenance.in_words(made)}." for made in export.made_with)
    return [*trained, f"Exported with {provenance.in_words(provenance.here())}."]


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


# --- the base model


def base_model(config: DictConfig) -> tuple[str, bool]:
    """Name of the run's starting model, and whether it is on the hub.

    OWNER/NAME may be a name on the hub or a relative folder. It is on the hub if this machine loaded it from there;
    otherwise it gets no link, which might be to someone else's model.
    """
    path = str(value_of(config, "actor_rollout_ref.model.path") or "not known").rstrip("/")
    on_hub = _HUB_NAME.fullmatch(path) and not Path(path).exists() and _cached(path, "config.json")
    return (path, True) if on_hub else (Path(path).name, False)


def _cached(name: str, file: str) -> Path | None:
    """A file that this machine loaded from the hub."""
    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _licence(config: DictConfig) -> dict[str, str]:
    """The base model's licence by the hub's identifier, if its card is on this machine and names it."""
    name, on_hub = base_model(config)
    path = (
        _cached(name, CARD_NAME) if on_hub else Path(str(value_of(config, "actor_rollout_ref.model.path")), CARD_NAME)
    )
    try:
        data = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True).data if path else {}
    except (OSError, ValueError, TypeError, yaml.YAMLError, RecursionError):
        return {}
    found = {key: data.get(key) for key in ("license", "license_name", "license_link")}
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{,39}", str(found["license"])):
        return {}
    if not str(found["license_link"]).startswith("https://"):
        del found["license_link"]  # a file beside that card
    return {key: printable(text, 200) for key, text in found.items() if isinstance(text, str)}


# --- evaluations


def _evaluation(export: Export, paths: Iterable[Path], fingerprint: str) -> tuple[list[EvalResult], str]:
    """Evaluations of the exported weights, for the head and for the page; empty without any."""
    results = [(path, read_result(path)) for path in paths]
    results = [(path, found) for path, found in results if (found.get("model") or {}).get("fingerprint") == fingerprint]
    try:
        for _, result in results:  # a result records the method, but not the weights
            called = f" ({printable(result['name'], 100)})" if len(results) > 1 else ""
            result |= {"name": export.name + called, "method": None, "base_model": None}
        for_head = [found for _, result in results for found in _eval_results(result)]
        return for_head, markdown(make_table(results)).strip() if results else ""
    except (KeyError, TypeError, AttributeError) as error:
        named = ", ".join(str(path) for path, _ in results)
        raise ValueError(f"{named}: not a complete result ({type(error).__name__}: {error}); evaluate again") from error


def _eval_results(result: Result) -> list[EvalResult]:
    """The first number of each task in the hub's format."""
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
    """The questions' location on the hub, if known; else the task's name."""
    card = _card_of(Path(data["file"])) if data.get("file") else None
    source = card.source if card else data.get("dataset")
    return source if isinstance(source, str) and _HUB_NAME.fullmatch(source) else task


# --- data


def _data_files(config: DictConfig) -> list[tuple[str, Path, Card | None]]:
    """Use, location and data card of each of the run's files."""
    found = []
    for key, words in (
        ("data.train_files", "trained on"),
        ("data.train_aug_files", "rephrased questions"),
        ("data.val_files", "validated on"),
    ):
        names = as_paths(value_of(config, key) or [])
        if key == "data.train_aug_files" and names == as_paths(value_of(config, "data.train_files") or []):
            continue  # the original questions, used twice
        for name in names:
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
        facts += [f"{read_table(path, quiet=True).num_rows:,} rows", f"SHA-256 {files_sha256(path)[:16]}…"]
    except (OSError, ValueError):  # missing or not readable
        return facts[0]
    return ", ".join(facts + ([f"{card.title} ({card.source}; licence: {card.licence})"] if card else []))


def _first_row(config: DictConfig) -> dict[str, Any]:
    """The run's first training row; {} if it cannot be read any more."""
    files = as_paths(value_of(config, "data.train_files") or [])
    try:
        spec = value_of(config, "co_rewarding.answer_format") or ""
        return read_table(Path(files[0]).expanduser(), spec=spec, quiet=True).slice(0, 1).to_pylist()[0]
    except (IndexError, OSError, ValueError):
        return {}


def _merges(folder: Path, kwargs: Mapping[str, Any]) -> bool:
    """Whether the system message was merged into the user's."""
    tokenizer = load_tokenizer(str(folder))
    return takes_no_system(lambda messages: tokenizer.apply_chat_template(list(messages), tokenize=False, **kwargs))


def _system_message(row: Mapping[str, Any]) -> str | None:
    """ "" if there is none, None if unknown."""
    try:
        text = next((message["content"] for message in row["prompt"] if message["role"] == "system"), "")
    except (KeyError, TypeError):
        return None
    return text if isinstance(text, str) and len(text) <= LONGEST_SYSTEM else None
