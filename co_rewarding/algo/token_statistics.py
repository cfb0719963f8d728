# SPDX-License-Identifier: Apache-2.0
"""Statistics of a policy's distribution for each token (arXiv 2508.00410, Eq. 3 and Appendix C.1).

    z = logits / temperature,  π = softmax(z)
    log-probability = log π_y = z_y − log Σ_v exp z_v          ≤ 0, of the token y that came next; nats
    self-certainty  = KL(U ‖ π) = −(1/|V|) Σ_v log(|V| π_v)    ≥ 0, 0 for the uniform distribution; nats
    entropy         = H = −Σ_v π_v log π_v                     0 to log |V|; nats
    of a response   = the mean over its tokens

    ∂ log π_y / ∂z_v = 1[v = y] − π_v          ∂H / ∂z_v = −π_v (log π_v + H)

Legend: N rows of a batch, T tokens (packed: of all rows one after another), V vocabulary.

|V| is the width of the logits, padding beyond the tokenizer's vocabulary included. Memory: the logits are kept
unchanged for the backward pass, which makes one gradient of their size and type; besides them there are at most three
fp32 temporaries of a chunk, in both directions, for any T. bf16 logits are widened a chunk at a time, so no further
precision is lost. Degenerate cases:
- a logit of −inf (a masked token) adds nothing to the entropy and makes the self-certainty infinite, by its formula;
- a response without tokens has no mean: None;
- a statistic that is not finite is an error where the mean is taken: it would make a whole group's advantages NaN.

Deliberately absent: a gradient of the self-certainty (rewards have none), and where the logits come from
(co_rewarding.training.engine).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

CHUNK_NUMBERS = {"cpu": 2**20, "cuda": 2**26}
"""Logits per chunk: on a CPU what fits into its cache, on a GPU 441 tokens of a vocabulary of 152k, 256 MiB."""
STATISTICS = ("log_probs", "entropy", "self_certainty")
DISTRIBUTION_STATISTICS = STATISTICS[1:]  # those without a next token


def token_statistics(
    logits_T_V: torch.Tensor,
    temperature_T: torch.Tensor | None = None,
    names: Collection[str] = DISTRIBUTION_STATISTICS,
    positions: torch.Tensor | None = None,
    labels_T: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Statistics of the distributions given by these logits: T numbers in nats, fp32, by name.

    `log_probs` and `entropy` carry the gradient of the logits.

    Args:
        logits_T_V: any floating-point type; must stay unchanged until the backward pass.
        temperature_T: of each selected token, > 0 (clamped to 1e-8 from below, as verl does); None: 1. verl divides in
            the logits' own type; here it is done in fp32, which differs by rounding only.
        names: which of STATISTICS; each costs a pass over the vocabulary.
        positions: the selected rows of logits_T_V, each once, in this order; None: all. labels_T: of each selected
        token, the token that came next; for `log_probs`.
    """
    if unknown := set(names) - set(STATISTICS):
        raise ValueError(f"token statistics {', '.join(sorted(unknown))}: must be of {', '.join(STATISTICS)}")
    num_tokens = logits_T_V.shape[0] if positions is None else positions.shape[0]
    for name, given in (("temperature_T", temperature_T), ("labels_T", labels_T)):
        if given is not None and given.shape != (num_tokens,):
            raise ValueError(f"{name} has shape {tuple(given.shape)}: give one a token, ({num_tokens},)")
    if "log_probs" in names and labels_T is None:
        raise ValueError("labels_T is None: log_probs needs the next tokens; pass them")
    columns = _TokenStatistics.apply(logits_T_V, temperature_T, positions, labels_T, tuple(names))
    return dict(zip(names, columns, strict=True))


class _TokenStatistics(torch.autograd.Function):
    """The formulas above, a chunk of tokens at a time; the backward pass recomputes each chunk's π."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits_T_V: torch.Tensor,
        temperature_T: torch.Tensor | None,
        positions: torch.Tensor | None,
        labels_T: torch.Tensor | None,
        names: tuple[str, ...],
    ) -> tuple[torch.Tensor, ...]:
        num_tokens, log_vocabulary = len(logits_T_V if positions is None else positions), math.log(logits_T_V.shape[1])
        columns = {name: logits_T_V.new_empty(num_tokens, dtype=torch.float32) for name in names}
        for chunk, _, log_probs in _chunks(logits_T_V, temperature_T, positions):
            if "log_probs" in columns:
                columns["log_probs"][chunk] = log_probs.gather(-1, labels_T[chunk, None])[:, 0]
            if "self_certainty" in columns:
                columns["self_certainty"][chunk] = -log_vocabulary - log_probs.mean(dim=-1)
            if "entropy" in columns:  # last, as it changes log_probs; entr(π) = −π log π, 0 at π = 0
                columns["entropy"][chunk] = torch.special.entr(log_probs.exp_()).sum(dim=-1)
        ctx.names = names
        ctx.save_for_backward(logits_T_V, temperature_T, positions, labels_T, columns.get("entropy"))
        ctx.set_materialize_grads(False)
        if "self_certainty" in columns:
            ctx.mark_non_differentiable(columns["self_certainty"])
        return tuple(columns.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients_T: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        logits_T_V, temperature_T, positions, labels_T, entropy_T = ctx.saved_tensors
        by_name = dict(zip(ctx.names, gradients_T, strict=True))
        by_log_prob_T, by_entropy_T = by_name.get("log_probs"), by_name.get("entropy")
        gradient_T_V = torch.empty_like(logits_T_V) if positions is None else torch.zeros_like(logits_T_V)
        for chunk, rows, log_probs in _chunks(logits_T_V, temperature_T, positions):
            by_z = log_probs.exp().neg_()  # −π, times the common factor g_y + g_H (log π + H)
            if by_entropy_T is not None:
                # π is 0 in fp32 where log π < −104: any finite number works there, −∞ would give 0 · ∞
                factor = log_probs.clamp_(min=-200.0).add_(entropy_T[chunk, None]).mul_(by_entropy_T[chunk, None])
                by_z.mul_(factor if by_log_prob_T is None else factor.add_(by_log_prob_T[chunk, None]))
            elif by_log_prob_T is not None:
                by_z.mul_(by_log_prob_T[chunk, None])
            if by_log_prob_T is not None:
                by_z.scatter_add_(-1, labels_T[chunk, None], by_log_prob_T[chunk, None])
            if temperature_T is not None:
                by_z.div_(_divisor(temperature_T[chunk]))
            gradient_T_V[rows] = by_z.to(gradient_T_V.dtype)
        return gradient_T_V, None, None, None, None


def _chunks(
    logits_T_V: torch.Tensor, temperature_T: torch.Tensor | None, positions: torch.Tensor | None
) -> Iterator[tuple[slice, slice | torch.Tensor, torch.Tensor]]:
    """Of each chunk: its place among the tokens, its rows of the logits, and log π in fp32, which may be changed."""
    numbers = CHUNK_NUMBERS.get(logits_T_V.device.type, CHUNK_NUMBERS["cuda"])
    num_tokens = max(1, numbers // logits_T_V.shape[1])
    for start in range(0, len(logits_T_V if positions is None else positions), num_tokens):
        chunk = slice(start, start + num_tokens)
        rows = chunk if positions is None else positions[chunk]
        z = logits_T_V[rows]
        if temperature_T is not None:
            z = z.float() / _divisor(temperature_T[chunk])
        yield chunk, rows, torch.log_softmax(z, dim=-1, dtype=torch.float32)


def _divisor(temperature_T: torch.Tensor) -> torch.Tensor:
    return temperature_T[:, None].float().clamp(min=1e-8)


def response_means(statistic_N_T: torch.Tensor, response_mask_N_T: torch.Tensor, name: str) -> list[float | None]:
    """The mean over the tokens of each response.

    Args:
        statistic_N_T: jagged nested tensor, one row a response, one number a response token.
        response_mask_N_T: the same shape; 1 for a token that the policy wrote, 0 for one that it did not.
        name: of the statistic, for the message of an error.

    Returns:
        N means, None for a response without a token of the policy's.

    Raises:
        ValueError: a number is not finite.
    """
    means: list[float | None] = []
    for row, (values_T, mask_T) in enumerate(zip(statistic_N_T.unbind(), response_mask_N_T.unbind(), strict=True)):
        values = values_T[mask_T.bool()].double()
        mean = values.mean().item() if len(values) else None
        if mean is not None and not math.isfinite(mean):
            raise ValueError(
                f"{name} of row {row} is {mean}: its logits have NaN or −inf; check the training loss and look for a "
                "model that masks tokens in its own forward pass"
            )
        means.append(mean)
    return means
