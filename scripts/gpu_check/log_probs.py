# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities and entropies of tokens: this project's, in chunks, against verl's alternatives.

Checks the results against float64; measures the cost. T tokens, V vocabulary, H width of the model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from card import DEVICE, peak_of, seconds_of
from rows import Rows

from co_rewarding.algo.token_statistics import STATISTICS, token_statistics

NUM_REFERENCE_TOKENS = 64
LIMIT = 1e-4  # nats; ten units in the last place of fp32 at log 152k = 12, for sums over a vocabulary
GRADIENT_LIMIT = 5e-3  # of the gradient's size: the gradient of bf16 logits is bf16, whose spacing is 2⁻⁸ = 4e-3


def measure(rows: Rows) -> None:
    tokens, slow_tokens, vocabulary, width = (4096, 512, 151_936, 1024) if DEVICE == "cuda" else (96, 32, 1000, 32)
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, device=DEVICE, dtype=torch.bfloat16)
    head = (torch.randn(vocabulary, width, device=DEVICE) / width**0.5).bfloat16()
    logits = hidden @ head.T
    labels = torch.randint(vocabulary, (tokens,), device=DEVICE)
    _check_against_float64(rows, logits[:NUM_REFERENCE_TOKENS], labels[:NUM_REFERENCE_TOKENS])

    from verl.utils.torch_functional import logprobs_from_logits_v2

    def ours(x: torch.Tensor, names: tuple[str, ...]) -> torch.Tensor:
        return sum(token_statistics(x, names=names, labels_T=labels[: len(x)]).values())

    _cost(rows, "log-probs: ours", logits, lambda x: ours(x, ("log_probs",)))
    _cost(rows, "log-probs and entropy: ours", logits, lambda x: ours(x, ("log_probs", "entropy")))
    _cost(
        rows, "log-probs: verl's, token by token", logits[:slow_tokens],
        lambda x: logprobs_from_logits_v2(x, labels[: len(x)]),
    )  # fmt: skip
    # verl's fused kernels never make the logits: they are compared with ours plus the product of hidden states and head
    head_too = "log-probs and entropy, output layer included"
    _cost(rows, f"{head_too}: ours", hidden, lambda x: ours(x @ head.T, ("log_probs", "entropy")))
    for name, fused in _fused(head, labels).items():
        try:
            _cost(rows, f"{head_too}: {name}", hidden, fused)
        except Exception as error:  # an alternative that this machine cannot run is no failure
            rows.not_run(f"{head_too}: {name}", f"{type(error).__name__}: {' '.join(str(error).split())[:120]}")


def _check_against_float64(rows: Rows, logits: torch.Tensor, labels: torch.Tensor) -> None:
    """log π_y, H and KL(U ‖ π) and the gradient of a weighted sum of the first two, by their formulas."""
    weights = torch.randn(2, len(logits), device=logits.device, dtype=torch.float64)
    exact = logits.double().requires_grad_()
    log_pi = torch.log_softmax(exact, dim=-1)
    expected = {
        "log_probs": log_pi.gather(-1, labels[:, None])[:, 0],
        "entropy": -(log_pi.exp() * log_pi).sum(dim=-1),
        "self_certainty": -torch.log(torch.tensor(logits.shape[1], dtype=torch.float64)) - log_pi.mean(dim=-1),
    }
    (weights[0] * expected["log_probs"] + weights[1] * expected["entropy"]).sum().backward()
    leaf = logits.clone().requires_grad_()
    found = token_statistics(leaf, names=STATISTICS, labels_T=labels)
    (weights[0] * found["log_probs"] + weights[1] * found["entropy"]).sum().backward()
    errors = {name: float((found[name] - value).detach().abs().max()) for name, value in expected.items()}
    gradient_error = float((leaf.grad.double() - exact.grad).norm() / exact.grad.norm())
    rows.check(
        f"log-probs, entropy, certainty of {len(logits)} tokens against float64",
        max(errors.values()) < LIMIT and gradient_error < GRADIENT_LIMIT,
        f"off by at most {max(errors.values()):.1e} nats (limit {LIMIT:.0e}), gradient by {gradient_error:.1e} of its "
        f"size (limit {GRADIENT_LIMIT:.0e})",
    )


def _fused(head: torch.Tensor, labels: torch.Tensor) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    from verl.utils.experimental.torch_functional import FusedLinearForPPO

    kernels = {"verl's fused, torch": lambda x: sum(FusedLinearForPPO()(x, head, labels, 1.0))}
    if DEVICE == "cuda":
        from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

        kernels["verl's fused, triton"] = lambda x: sum(linear_cross_entropy(x, head, labels, 1.0, "none"))
    return kernels


def _cost(rows: Rows, name: str, inputs: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Forward alone and with the gradient of the inputs, under the autocast that training uses."""
    leaf = inputs.clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad(), torch.autocast(DEVICE, dtype=torch.bfloat16):
            function(leaf)

    def both() -> None:
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            function(leaf).sum().backward()
        leaf.grad = None

    microseconds = [1e6 * seconds_of(call) / len(leaf) for call in (forward, both)]
    value = f"{microseconds[0]:.2f} µs a token, {microseconds[1]:.2f} with its gradient{peak_of(both)}"
    rows.measured(name, f"{value}; {len(leaf)} tokens")
