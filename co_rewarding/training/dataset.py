# SPDX-License-Identifier: Apache-2.0
"""verl's dataset without its need for ground truths, and a dataset with two views: the rephrased prompt is one more
column.

`data.train_files` hold the original view and `data.train_aug_files` the rephrased one, row by row; without the
latter, and in validation, which has the original view only, there is no such column. Other formats than parquet in
verl's schema are converted into `data.cache_dir` first, with the same rows that the preflight checks read.

verl 0.9.1 does not tell a dataset what it is for: `create_rl_dataset` keeps its `is_train` to itself, and
`max_samples` may be the same for both. So the paths decide, and `data.val_files` equal to `data.train_files` (a check
for overfitting) is read like training data. That changes no question's accuracy: validation uses `raw_prompt`, the
original view, and ignores the additional column. A question whose rephrasing is too long is then left out of validation
too.
"""

import glob
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import RLHFDataset

from co_rewarding.algo.rollouts import VIEWS
from co_rewarding.storage.messages import Messages, arguments, merged, takes_no_system
from co_rewarding.storage.rows import PAIR_COLUMNS, as_paths, check_pairs, ground_truth, question_id
from co_rewarding.storage.stated_as import ANSWER_FORMAT, CHOICES, stated_as
from co_rewarding.training import rollout_io
from co_rewarding.training.questions import verl_files

REPHRASED_PROMPT = "rephrased_prompt"


class QuestionDataset(RLHFDataset):
    """Overrides of verl's `RLHFDataset`: `_read_files_and_tokenize` takes no file for no rows (a run that validates
    nothing), `_download` takes files of any format and lets a path have any characters, `maybe_filter_out_long_prompts`
    merges a system message into the user's where the chat template takes none (storage/messages.py), so that verl sees
    exactly the prompt that is sent, `__getitem__` gives every row the `reward_model` that verl's reward loop reads, and
    a column STATED_AS, a dictionary like it: the row's answer format ("" if not given) and the texts of its options.

    Its ground truth is text, "" where the row has none, whether that is "", null, or no column at all.
    """

    def _read_files_and_tokenize(self) -> None:
        if not self.data_files:
            self.dataframe = datasets.Dataset.from_dict({self.prompt_key: []})
            return
        super()._read_files_and_tokenize()

    def _download(self, use_origin_parquet: bool = False) -> None:
        super()._download(use_origin_parquet)
        self.parquet_files = verl_files(self.data_files, self.config, Path(self.cache_dir))
        # verl passes each to `datasets.load_dataset`, which reads it, and the folder it is relative to, as a pattern
        self.data_files = [glob.escape(os.path.abspath(path)) for path in self.parquet_files]

    def maybe_filter_out_long_prompts(self, dataframe: datasets.Dataset) -> datasets.Dataset:
        key = self.prompt_key
        if takes_no_system(self._prompt_text):
            dataframe = dataframe.map(lambda row: {key: merged(row[key])}, features=dataframe.features)
        return super().maybe_filter_out_long_prompts(dataframe)

    def _prompt_text(self, messages: Messages) -> str:
        return (self.processor or self.tokenizer).apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False, **arguments(self.apply_chat_template_kwargs)
        )

    def __getitem__(self, item: int) -> dict[str, Any]:
        row = super().__getitem__(item)
        row["reward_model"] = {"style": "rule", **(row.get("reward_model") or {}), "ground_truth": ground_truth(row)}
        spec, choices = stated_as(row)
        row[rollout_io.STATED_AS] = {ANSWER_FORMAT: spec, CHOICES: list(choices)}
        return {name: value for name, value in row.items() if name not in (ANSWER_FORMAT, CHOICES)}


class PairedDataset(QuestionDataset):
    """Overrides: `_read_files_and_tokenize` checks the pairs, `maybe_filter_out_long_prompts` joins them and drops a
    question when either view is too long.

    A training row has the additional column `rephrased_prompt`, a list of messages like `prompt`.

    Raises:
        ValueError: the files do not pair up (see `co_rewarding.storage.rows.check_pairs`).
    """

    def _read_files_and_tokenize(self) -> None:
        paths = as_paths(self.original_data_files)
        self.has_pairs = bool(self.config.train_aug_files) and paths == as_paths(self.config.train_files)
        if not self.has_pairs:
            return super()._read_files_and_tokenize()
        aug_paths = as_paths(self.config.train_aug_files)
        aug_files = verl_files(aug_paths, self.config, Path(self.cache_dir))
        rephrased = _rows(aug_files, [*PAIR_COLUMNS, self.prompt_key])
        check_pairs(_rows(self.parquet_files, PAIR_COLUMNS), rephrased, names=(", ".join(paths), ", ".join(aug_paths)))
        self.rephrasing_of = {question_id(row): row[self.prompt_key] for row in rephrased}
        super()._read_files_and_tokenize()
        del self.rephrasing_of  # joined by now; verl's dataloader pickles the dataset

    def maybe_filter_out_long_prompts(self, dataframe: datasets.Dataset) -> datasets.Dataset:
        if not self.has_pairs:
            return super().maybe_filter_out_long_prompts(dataframe)
        # rows may have been sampled by now (train_max_samples), so join by question and not by position
        prompts = [self.rephrasing_of[question_id(row)] for row in dataframe.select_columns("extra_info")]
        dataframe = dataframe.add_column(REPHRASED_PROMPT, prompts)
        dataframe = super().maybe_filter_out_long_prompts(dataframe)
        prompt_key, self.prompt_key = self.prompt_key, REPHRASED_PROMPT
        try:
            return super().maybe_filter_out_long_prompts(dataframe)
        finally:
            self.prompt_key = prompt_key


def with_rephrased(original: TensorDict) -> TensorDict:
    """P questions in their original view → 2 P prompts, originals first, each with a uid (a group) of its own."""
    rephrased_prompts = rollout_io.column(original, REPHRASED_PROMPT)
    del original[REPHRASED_PROMPT]
    rephrased = rollout_io.with_column(original, "raw_prompt", rephrased_prompts.__getitem__)
    rephrased = rollout_io.with_column(rephrased, rollout_io.VIEW, lambda _: VIEWS[1])
    rephrased = rollout_io.with_column(rephrased, "uid", lambda _: str(uuid.uuid4()))
    return tu.concat_tensordict([original, rephrased])


def _rows(paths: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """The named columns of all rows (`a.b`: field b of column a); a column that a file has not is absent."""
    files = (pyarrow.parquet.ParquetFile(Path(path).expanduser()) for path in paths)
    return [row for file in files for row in file.read(columns=list(columns)).to_pylist()]
