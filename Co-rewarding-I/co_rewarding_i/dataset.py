# SPDX-License-Identifier: Apache-2.0
"""Questions in two wordings: verl's dataset with the rephrased prompt as one more column.

`data.train_files` hold the original wording and `data.train_aug_files` the rephrased one, row by row. Validation has
the original wording only and is verl's dataset unchanged.
"""

import datasets
from verl.utils.dataset.rl_dataset import RLHFDataset

from co_rewarding.pairs import as_paths, check_pairs, question_id

REPHRASED_PROMPT = "rephrased_prompt"


class PairedDataset(RLHFDataset):
    """Overrides of verl's `RLHFDataset`: `_read_files_and_tokenize` checks the pairs, `maybe_filter_out_long_prompts`
    joins them and drops a question when either wording is too long.

    A training row has the additional column `rephrased_prompt`, a list of messages like `prompt`.

    Raises:
        ValueError: the files do not pair up (see `co_rewarding.pairs.check_pairs`).
    """

    def _read_files_and_tokenize(self) -> None:
        self.is_training_set = as_paths(self.original_data_files) == as_paths(self.config.train_files)
        if self.is_training_set:
            aug_files = as_paths(self.config.train_aug_files)
            original, self.rephrased = _read(as_paths(self.original_data_files)), _read(aug_files)
            columns = ["extra_info", "reward_model"]
            check_pairs(
                original.select_columns(columns).to_list(),
                self.rephrased.select_columns(columns).to_list(),
                names=(", ".join(as_paths(self.original_data_files)), ", ".join(aug_files)),
            )
        super()._read_files_and_tokenize()

    def maybe_filter_out_long_prompts(self, dataframe: datasets.Dataset) -> datasets.Dataset:
        # rows may have been sampled by now (train_max_samples), so join by question and not by position
        if not self.is_training_set:
            return super().maybe_filter_out_long_prompts(dataframe)
        prompt_of = dict(zip(map(question_id, self.rephrased.to_list()), self.rephrased[self.prompt_key], strict=True))
        dataframe = dataframe.add_column(REPHRASED_PROMPT, [prompt_of[question_id(row)] for row in dataframe])
        dataframe = super().maybe_filter_out_long_prompts(dataframe)
        prompt_key, self.prompt_key = self.prompt_key, REPHRASED_PROMPT
        try:
            return super().maybe_filter_out_long_prompts(dataframe)
        finally:
            self.prompt_key = prompt_key


def _read(paths: list[str]) -> datasets.Dataset:
    return datasets.load_dataset("parquet", data_files=paths)["train"]
