# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities, self-certainty and entropy of logits, and their gradients, against hand-made numbers and a plain
float64 reference."""

import importlib
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from co_rewarding.algo.token_statistics import STATISTICS, response_means, token_statistics

MODULE = importlib.import_module("co_rewarding.algo.token_statistics")
LN2 = math.log(2)


def reference(logits: torch.Tensor, temperature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two formulas, term by term in float64: −(1/V) Σ log(V π_v) and −Σ π_v log π_v."""
    probs = torch.softmax(logits.double() / temperature.double()[:, None], dim=-1)
    vocabulary = probs.shape[-1]
    return -(vocabulary * probs).log().mean(-1), -(probs * probs.log()).sum(-1)


@pytest.fixture
def chunks_of_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULE.CHUNK_NUMBERS, "cpu", 8 * 997)


def nested(*rows: list[float]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row, dtype=torch.float32) for row in rows], layout=torch.jagged)


def test_by_hand() -> None:
    # π = 1/2 1/4 1/8 1/8 (logits: their logarithms, and any constant added)
    # entropy = 1/2 · 1 + 1/4 · 2 + 2 · 1/8 · 3 = 7/4 bits
    # |V| π = 2 1 1/2 1/2, so KL(U ‖ π) = −(1/4) (1 + 0 − 1 − 1) = 1/4 bit
    skewed = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8]).log()
    found = token_statistics(torch.stack([skewed, skewed + 30, torch.zeros(4)]), torch.ones(3))
    # uniform: entropy log 4 = 2 bits, self-certainty 0
    assert found["entropy"].tolist() == pytest.approx([7 / 4 * LN2, 7 / 4 * LN2, 2 * LN2], rel=1e-5)
    assert found["self_certainty"].tolist() == pytest.approx([LN2 / 4, LN2 / 4, 0], rel=1e-5, abs=1e-6)


def test_temperature_divides_the_logits_of_its_own_token() -> None:
    # logits 0, 2 ln 2 at temperature 2 are 0, ln 2: π = 1/3, 2/3; at temperature 1: π = 1/5, 4/5
    logits = torch.tensor([[0.0, 2 * LN2]] * 2)
    found = token_statistics(logits, torch.tensor([2.0, 1.0]))
    entropies = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (1 / 3, 1 / 5)]
    # −½ (log(2/3) + log(4/3)) = −½ log(8/9); −½ (log(2/5) + log(8/5)) = −½ log(16/25)
    certainties = [-math.log(8 / 9) / 2, -math.log(16 / 25) / 2]
    assert found["entropy"].tolist() == pytest.approx(entropies, rel=1e-5)
    assert found["self_certainty"].tolist() == pytest.approx(certainties, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_tokens", [1, 8, 17])
def test_against_float64(dtype: torch.dtype, num_tokens: int, chunks_of_8: None) -> None:
    random = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(num_tokens, 997, generator=random) + 12).to(dtype)
    kept = logits.clone()
    temperature = 0.5 + torch.rand(num_tokens, generator=random)
    found = token_statistics(logits, temperature)
    certainty, entropy = reference(logits, temperature)  # of the rounded logits: the type costs nothing more
    assert found["self_certainty"].dtype == found["entropy"].dtype == torch.float32
    torch.testing.assert_close(found["self_certainty"].double(), certainty, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["entropy"].double(), entropy, rtol=1e-5, atol=1e-5)
    assert torch.equal(logits, kept)  # the loss still needs them


def test_autocast_does_not_lower_the_precision() -> None:
    logits = (3 * torch.randn(9, 5000, generator=torch.Generator().manual_seed(1))).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_statistics(logits, torch.ones(9))
    certainty, entropy = reference(logits, torch.ones(9))
    torch.testing.assert_close(found["self_certainty"].double(), certainty, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["entropy"].double(), entropy, rtol=1e-5, atol=1e-5)


def test_positions_pick_rows_in_order() -> None:
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(2))
    logits[3] = math.nan  # what stands at padding does not matter
    positions = torch.tensor([5, 0, 6])
    temperature = torch.tensor([1.0, 2.0, 0.5])
    found = token_statistics(logits, temperature, positions=positions)
    certainty, entropy = reference(logits[positions], temperature)
    torch.testing.assert_close(found["self_certainty"].double(), certainty, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["entropy"].double(), entropy, rtol=1e-5, atol=1e-6)


def test_extremes() -> None:
    # certain of one token: the others' exp(−200) vanishes in fp32, their logarithm does not: KL = −log 4 + 3/4 · 200
    # a masked token: of the other three each has 1/3, entropy log 3; log 0 makes the self-certainty infinite
    logits = torch.tensor([[200.0, 0, 0, 0], [0, 0, 0, -math.inf]])
    found = token_statistics(logits, torch.ones(2))
    assert found["entropy"].tolist() == pytest.approx([0, math.log(3)], rel=1e-6)
    assert found["self_certainty"].tolist() == pytest.approx([150 - math.log(4), math.inf], rel=1e-6)


def gradient_reference(
    logits: torch.Tensor, temperature: torch.Tensor, labels: torch.Tensor, by_log_prob: torch.Tensor, by_entropy: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """log π of the labels, and the gradient of Σ_t g_t log π_t + g_H Σ_t H_t, by autograd in float64."""
    logits = logits.double().requires_grad_()
    log_probs = torch.log_softmax(logits / temperature.double()[:, None], dim=-1)
    chosen = log_probs.gather(1, labels[:, None])[:, 0]
    entropy = -(log_probs.exp() * log_probs).sum()
    (gradient,) = torch.autograd.grad((by_log_prob.double() * chosen).sum() + by_entropy * entropy, logits)
    return chosen.detach(), gradient


def test_gradient_by_hand() -> None:
    # π = 1/2 1/4 1/4, the second token came next: ∂ log π_2 / ∂z = −π + (0, 1, 0) = −1/2, 3/4, −1/4
    logits = torch.tensor([[1 / 2, 1 / 4, 1 / 4]]).log().requires_grad_()
    found = token_statistics(logits, torch.ones(1), ["log_probs", "entropy"], labels_T=torch.tensor([1]))
    assert found["log_probs"].tolist() == pytest.approx([-2 * LN2])
    (gradient,) = torch.autograd.grad(found["log_probs"].sum(), logits, retain_graph=True)
    assert gradient[0].tolist() == pytest.approx([-1 / 2, 3 / 4, -1 / 4])
    # H = 3/2 bits; ∂H/∂z_v = −π_v (log π_v + H): −1/2 (−1 + 3/2), twice −1/4 (−2 + 3/2) bits
    (gradient,) = torch.autograd.grad(found["entropy"].sum(), logits)
    assert gradient[0].tolist() == pytest.approx([-LN2 / 4, LN2 / 8, LN2 / 8])


@pytest.mark.parametrize("by_entropy", [0.0, -0.3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-8)])
def test_gradient_against_float64(
    dtype: torch.dtype, rtol: float, padded: bool, by_entropy: float, chunks_of_8: None
) -> None:
    random = torch.Generator().manual_seed(3)
    logits = (5 * torch.randn(20, 997, generator=random)).to(dtype)
    positions = torch.randperm(20, generator=random)[:17] if padded else None
    rows = logits[positions] if padded else logits
    temperature = 0.5 + torch.rand(len(rows), generator=random)
    labels = torch.randint(997, (len(rows),), generator=random)
    weights = torch.randn(len(rows), generator=random)
    chosen, expected = gradient_reference(rows, temperature, labels, weights, by_entropy)
    logits.requires_grad_()
    names = ["log_probs", "entropy"] if by_entropy else ["log_probs"]
    found = token_statistics(logits, temperature, names, positions, labels)
    torch.testing.assert_close(found["log_probs"].double(), chosen, rtol=1e-6, atol=1e-5)
    loss = (weights * found["log_probs"]).sum() + by_entropy * sum(found["entropy"] if by_entropy else torch.zeros(1))
    loss.backward()
    assert logits.grad.dtype == dtype
    torch.testing.assert_close(
        (logits.grad[positions] if padded else logits.grad).double(), expected, rtol=rtol, atol=1e-6
    )
    if padded:  # what stands at padding has no share in the loss
        assert not logits.grad[[row for row in range(20) if row not in positions]].any()


def test_gradient_past_a_masked_token() -> None:
    # the three tokens that are left have z = 0: −π (log π + H) = 0, and 1[v = y] − π = 2/3, −1/3, −1/3, 0
    logits = torch.tensor([[0.0, 0.0, 0.0, -math.inf]], requires_grad=True)
    found = token_statistics(logits, torch.ones(1), ["log_probs", "entropy"], labels_T=torch.tensor([0]))
    (found["log_probs"] + found["entropy"]).sum().backward()
    assert logits.grad[0].tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3, 0], abs=1e-6)


class Made(TorchDispatchMode):
    """How many numbers the tensors have that operations make in memory of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        given = {arg.data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        if isinstance(made, torch.Tensor) and made.data_ptr() not in given:
            self.sizes.append(made.numel())
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_does_not_grow_with_the_sequence(dtype: torch.dtype, chunks_of_8: None) -> None:
    logits = torch.zeros(64, 997, dtype=dtype, requires_grad=True)
    labels = torch.zeros(64, dtype=torch.int64)
    with Made() as forward:
        found = token_statistics(logits, torch.ones(64), STATISTICS, torch.arange(64), labels)
    assert max(forward.sizes) == 8 * 997
    loss = (found["log_probs"] + found["entropy"]).sum()
    with Made() as backward:
        loss.backward()
    whole = [size for size in backward.sizes if size > 8 * 997]
    assert whole == [64 * 997]  # the gradient itself


def test_a_wrong_number_of_temperatures_or_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature_T has shape \(2,\): give one a token, \(3,\)"):
        token_statistics(torch.zeros(3, 4), torch.ones(2))
    with pytest.raises(ValueError, match=r"labels_T has shape \(4,\): give one a token, \(3,\)"):
        token_statistics(torch.zeros(3, 4), torch.ones(3), ["log_probs"], labels_T=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels_T is None: log_probs needs the next tokens"):
        token_statistics(torch.zeros(3, 4), torch.ones(3), ["log_probs"])


def test_response_means() -> None:
    # (1 + 2 + 6) / 3; the second token is not the policy's: (4 + 8) / 2; no token: no mean
    values = nested([1.0, 2.0, 6.0], [4.0, 99.0, 8.0], [])
    mask = nested([1, 1, 1], [1, 0, 1], [])
    assert response_means(values, mask, "entropy") == [3.0, 6.0, None]


def test_a_mean_that_is_no_number_is_an_error() -> None:
    mask = nested([1, 1], [1, 0])
    assert response_means(nested([1.0, 3.0], [2.0, math.nan]), mask, "entropy") == [2.0, 2.0]  # not the policy's token
    with pytest.raises(ValueError, match="entropy of row 1 is nan: its logits have NaN"):
        response_means(nested([1.0, 3.0], [math.nan, 2.0]), mask, "entropy")
    with pytest.raises(ValueError, match="self_certainty of row 0 is inf"):
        response_means(nested([1.0, math.inf], [2.0, 2.0]), mask, "self_certainty")


def test_an_unknown_statistic_is_refused():
    with pytest.raises(ValueError, match="token statistics certainty: must be of log_probs, entropy, self_certainty"):
        token_statistics(torch.zeros(3, 4), torch.ones(3), ["entropy", "certainty"])
    only = token_statistics(torch.zeros(3, 4), torch.ones(3), ["entropy"])
    assert list(only) == ["entropy"]
