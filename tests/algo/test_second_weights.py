# SPDX-License-Identifier: Apache-2.0
"""A second set of weights beside a model that moves on: every bit of both comes back, whatever type holds them."""

import pytest
import torch

from co_rewarding.algo import second_weights
from co_rewarding.algo.second_weights import SecondWeights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_exchanges_change_no_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_weights, "SLICE", 3)  # several slices, the last one shorter
    random = torch.Generator().manual_seed(0)
    layer = torch.nn.ParameterDict(
        {name: torch.randn(shape, generator=random).to(dtype) for name, shape in (("a", (4, 2)), ("b", (1,)))}
    )
    before = {name: parameter.detach().clone() for name, parameter in layer.items()}
    start = SecondWeights(lambda: dict(layer.items()))
    with torch.no_grad():
        for parameter in layer.values():
            parameter.mul_(1.7).sub_(0.3)
    moved = {name: parameter.detach().clone() for name, parameter in layer.items()}
    places = {name: parameter.data_ptr() for name, parameter in layer.items()}
    for expected in (before, moved, before, moved):
        start.exchange()
        assert all(torch.equal(layer[name], expected[name]) for name in layer)
    assert {name: parameter.data_ptr() for name, parameter in layer.items()} == places  # in place, as FSDP2 needs it
    assert all(not torch.equal(before[name], moved[name]) for name in layer)


def test_they_are_in_place_for_a_block_even_one_that_fails() -> None:
    layer = torch.nn.ParameterDict({"a": torch.tensor([1.0, 2.0])})
    second = SecondWeights(lambda: dict(layer.items()))
    second.beside["a"].add_(10)  # as the teacher's average does
    with pytest.raises(RuntimeError, match="halfway"), second.in_place():
        assert layer["a"].tolist() == [11, 12] and second.beside["a"].tolist() == [1, 2]
        raise RuntimeError("halfway")
    assert layer["a"].tolist() == [1, 2] and second.beside["a"].tolist() == [11, 12]
