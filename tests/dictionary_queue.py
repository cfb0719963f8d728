# SPDX-License-Identifier: Apache-2.0
"""A fake of verl's queue of rollouts."""

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu


class DictionaryQueue:
    """TransferQueue's calls that the trainer makes, on a dictionary: key -> column -> value."""

    def __init__(self) -> None:
        self.rows: dict[str, dict] = {}

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str]) -> TensorDict:
        columns: dict = {name: [self.rows[key][name] for key in keys] for name in select_fields}
        responses = columns.pop("responses")
        data = tu.get_tensordict(columns)
        data["responses"] = torch.nested.as_nested_tensor(responses, layout=torch.jagged)
        return data

    def kv_batch_put(self, keys: list[str], partition_id: str, fields: TensorDict) -> None:
        for name in fields.keys():  # noqa: SIM118 - a TensorDict iterates over rows
            for key, value in zip(keys, fields[name].unbind(), strict=True):
                self.rows[key][name] = value

    def kv_clear(self, keys: list[str], partition_id: str) -> None:
        for key in keys:
            del self.rows[key]
