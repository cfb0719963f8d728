# SPDX-License-Identifier: Apache-2.0
"""The model card: README.md of an exported model, made of what its run left.

Method, base model, data, settings that differ from the paper's, curves, results of the training run and of evaluations
of exactly these weights (by their fingerprint), versions, commit. What is not known is not said. Paths of the machine
are shortened to their last two parts, since a card is made to be shared.

The last line holds a hash of the text above it. A card whose text is another one was edited by hand and is not written
again. Names and answers in a card come from files: they are put on one line, and cannot end a table or a code block.

No date, so that the same export gives the same card. Deliberately absent: a licence; it is the base model's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml
from omegaconf import DictConfig, OmegaConf

from co_rewarding.algo.methods import Method
from co_rewarding.storage import provenance
from co_rewarding.storage.rows import SYSTEM_PROMPT, as_paths, file_sha256
from co_rewarding.tools.data.card import read_card
from co_rewarding.tools.evaluation.results import METHOD_TITLES, Result, read_result
from co_rewarding.tools.evaluation.tables import make_table, markdown
from co_rewarding.tools.export.run_config import changed_between, differences, method_of
from co_rewarding.tools.report.runs import Run
from co_rewarding.tools.report.summary import summary

CARD_NAME, CURVES_NAME = "README.md", "training_curves.png"
PAPER = "[arXiv 2508.00410](https://arxiv.org/abs/2508.00410)"
_MARK = re.compile(r"<!-- co-rewarding card ([0-9a-f]{16}) -->\n\Z")

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
    made_with: Sequence[Mapping[str, Any] | None]  # of its starts, see co_rewarding.storage.provenance

    @property
    def config(self) -> DictConfig:
        return self.configs[-1]

    @property
    def method(self) -> Method:
        return method_of(self.config)


def _made_with(export: Export) -> list[str]:
    """What trained, if the run noted it, and what exported."""
    trained = dict.fromkeys(provenance.in_words(made) for made in export.made_with if made is not None)
    exported = provenance.in_words(provenance.here())
    if list(trained) == [exported]:
        return [f"Trained and exported with {exported}."]
    return [*(f"Trained with {words}." for words in trained), f"Exported with {exported}."]


def card_text(export: Export, evaluation: str, has_curves: bool) -> str:
    """The card.

    Args:
        evaluation: Markdown of the tables, "" without.

    Raises:
        ValueError: the run's method is not known.
    """
    method = export.method
    base, base_on_hub = base_model(export.config)
    head: dict[str, Any] = {
        **({"base_model": base} if base_on_hub else {}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["co-rewarding", "reinforcement-learning", "grpo", "verl", "math"],
        "co_rewarding": {"method": method.name, "weights": export.weights, "step": export.step},
    }
    title = METHOD_TITLES.get(method.name, method.name)
    # a method of the user's is described by its name alone, and not by the paper
    what = f"{title}: {WHAT_IT_DOES[method.name]}" if method.name in WHAT_IT_DOES else title
    described = f", as described in {PAPER}" if method.name in WHAT_IT_DOES else ""
    facts = [
        ("base model", f"[{base}](https://huggingface.co/{base})" if base_on_hub else f"`{_code(base)}`"),
        ("method", what),
        ("weights", f"{export.weights} after {export.step} steps, {export.dtype}"),
        ("run", f"`{_code(export.run.name)}`"),
        *_data(export.config),
    ]
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000).rstrip(),
        "---",
        "",
        f"# {_line(base.rpartition('/')[2])}, {title}, {export.weights} of step {export.step}",
        "",
        f"Trained with {title}{described}, by an independent implementation on verl.",
        "",
        *_grid(("", ""), facts),
        "",
        "## Use",
        "",
        *_usage(),
        "",
        "## Settings that differ from the paper’s",
        "",
    ]
    differing = differences(export.config, method)
    lines += _grid(("setting", "this run", "paper (Table 5, Eq. 4)"), differing) if differing else ["None."]
    for change in changed_between(export.configs):
        lines += ["", f"Changed between the run’s {len(export.configs)} starts: {_line(change)}."]
    lines += ["", "## Training", ""]
    if has_curves:
        lines += [f"![Curves of the run against its steps]({CURVES_NAME})", ""]
    if export.run.steps:
        lines += _grid(("", "up to this step"), list(summary(export.run).items()))
        lines += [
            "",
            "Mean of the first → of the last steps (3, or half of all); ± standard error. Accuracies need "
            "ground truth, which the reward of a label-free method never sees.",
        ]
    else:
        lines.append("The run kept no metrics.")
    if evaluation:
        lines += ["", "## Evaluation", "", evaluation.strip()]
    lines += ["", "## Made with", "", *_made_with(export), "The base model’s licence applies.", ""]
    text = "\n".join(lines)
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
    path = str(config.actor_rollout_ref.model.path).rstrip("/")
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None and not Path(path).exists() and _from_hub(path)
    return (path, True) if on_hub else (Path(path).name, False)


def _from_hub(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        return False


def evaluation_text(results: Iterable[Path], fingerprint: str) -> str:
    """Tables of those evaluations that are of the model with this fingerprint, "" if there are none.

    Raises:
        ValueError: a result is broken.
    """
    found = [(path, result) for path in results if _fingerprint(result := read_result(path)) == fingerprint]
    return markdown(make_table(found)) if found else ""


def _fingerprint(result: Result) -> str | None:
    return (result.get("model") or {}).get("fingerprint")


def _data(config: DictConfig) -> list[tuple[str, str]]:
    """Rows on the data files: what they are called, and what is known of those that are still there."""
    facts = []
    for key, words in (
        ("data.train_files", "trained on"),
        ("data.train_aug_files", "rephrased questions"),
        ("data.val_files", "validated on"),
    ):
        value = OmegaConf.select(config, key)
        for name in as_paths(value) if value else []:
            facts.append((words, _data_file(Path(name).expanduser())))
    return facts


def _data_file(path: Path) -> str:
    facts = [f"`{_code('/'.join(path.parts[-2:]))}`"]
    if path.is_file():
        try:
            facts.append(f"{pyarrow.parquet.read_metadata(path).num_rows:,} rows")
            facts.append(f"SHA-256 {file_sha256(path)[:16]}…")
            card = read_card(path.parent)
        except (pyarrow.ArrowException, ValueError):  # not parquet, or a README.md of another kind
            card = None
        if card is not None and path.name in card.files:
            facts += [f"{_line(card.title)} ({_line(card.source)}; licence: {_line(card.licence)})"]
    return ", ".join(facts)


def _usage() -> list[str]:
    return [
        "The chat template is the base model’s; training asked with this system prompt:",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'path = "."  # this folder, or its name on the hub',
        "tokenizer = AutoTokenizer.from_pretrained(path)",
        "model = AutoModelForCausalLM.from_pretrained(path)",
        f'system = r"{SYSTEM_PROMPT}"',
        'messages = [{"role": "system", "content": system}, {"role": "user", "content": "What is 17 + 26?"}]',
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        ")",
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=512)[0, inputs.input_ids.shape[1] :]))",
        "```",
    ]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(row)} |" for row in cells),
    ]


def _line(text: str) -> str:
    """On one line, without HTML."""
    return " ".join(str(text).split()).replace("<", "&lt;")


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
