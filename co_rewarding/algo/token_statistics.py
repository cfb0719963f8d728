# SPDX-License-Identifier: Apache-2.0
"""What a policy's distribution says about each token (arXiv 2508.00410, Appendix C.1).

    π = softmax(logits / temperature)
    self-certainty = KL(U ‖ π) = −(1/|V|) Σ_v log(|V| π_v)     ≥ 0, 0 for the uniform distribution; nats
    entropy        = −Σ_v π_v log π_v                          0 to log |V|; nats
    of a response  = the mean over its tokens

Legend: N rows of a batch, T tokens (packed: of all rows one after another), V vocabulary.

|V| is the width of the logits: an output layer that is padded beyond the tokenizer's vocabulary counts as it is.
Memory: CHUNK_TOKENS × V numbers in fp32 a temporary, whatever T is. bf16 logits are read as they are and widened a
chunk at a time: their type costs no precision beyond what they have lost already. Degenerate cases:
- a logit of −inf (a masked token) adds nothing to the entropy and makes the self-certainty infinite, by its formula;
- a response without tokens has no mean: None;
- a statistic that is not finite is an error where the mean is taken: it would make a whole group's advantages NaN.

Deliberately absent: gradients (rewards have none), and where the logits come from (co_rewarding.training.engine).
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch

CHUNK_TOKENS = 256
"""Tokens handled at once: 256 of a vocabulary of 152k are 156 MB a temporary in fp32."""
STATISTICS = ("self_certainty", "entropy")


@torch.no_grad()
def token_statistics(
    logits_T_V: torch.Tensor,
    temperature_T: torch.Tensor,
    names: Collection[str] = STATISTICS,
    positions: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Statistics of the distributions that these logits stand for: T numbers in nats, fp32, by name.

    Args:
        logits_T_V: any floating-point type.
        temperature_T: of each selected token, > 0 (clamped to 1e-8 from below, as verl does). verl divides in the
            logits' own type; here it is done in fp32, which differs by rounding only.
        names: which of STATISTICS; each costs a pass over the vocabulary.
        positions: the rows of logits_T_V that are wanted, in the order wanted; None: all of them.
    """
    if unknown := set(names) - set(STATISTICS):
        raise ValueError(f"token statistics {', '.join(sorted(unknown))}: must be of {', '.join(STATISTICS)}")
    num_tokens = logits_T_V.shape[0] if positions is None else positions.shape[0]
    if temperature_T.shape != (num_tokens,):
        raise ValueError(f"temperature_T has shape {tuple(temperature_T.shape)}: give one a token, ({num_tokens},)")
    log_vocabulary = math.log(logits_T_V.shape[1])
    statistics = {name: torch.empty(num_tokens, dtype=torch.float32, device=logits_T_V.device) for name in names}
    for start in range(0, num_tokens, CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        rows = logits_T_V[chunk] if positions is None else logits_T_V[positions[chunk]]
        log_probs = rows.float() / temperature_T[chunk, None].float().clamp(min=1e-8)  # a copy: safe to change
        log_probs -= torch.logsumexp(log_probs, dim=-1, keepdim=True)
        if "self_certainty" in statistics:
            statistics["self_certainty"][chunk] = -log_vocabulary - log_probs.mean(dim=-1)
        if "entropy" in statistics:  # last, as it changes log_probs; entr(p) = −p log p, 0 at p = 0
            statistics["entropy"][chunk] = torch.special.entr(log_probs.exp_()).sum(dim=-1)
    return statistics


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
                f"{name} of row {row} is {mean}: its logits hold NaN or −inf; look at the training loss and for a "
                "model that masks tokens in its own forward pass"
            )
        means.append(mean)
    return means
