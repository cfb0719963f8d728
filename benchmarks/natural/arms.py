# SPDX-License-Identifier: Apache-2.0
"""The arms trained from every start, and the claims of their comparisons.

CLAIMS was written before any training. A claim says that a difference is above 0: of accuracies at the last step, of
two steps of one arm, or of shares of corrupted questions. It holds if the whole 95 % interval is above 0, is refuted if
it is below, and is undecided otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from co_rewarding.algo.methods import METHODS, Method
from co_rewarding.algo.payout import Payout

STEPS = 200
NUM_QUESTIONS = 8  # a step
NUM_ROLLOUTS = 8  # G
LEARNING_RATE = 1e-4  # constant; chosen with the true answers on start 0, which is in no result
KL, KL_OF_TEACHER = 0.005, 0.001  # of the paper: I and its baselines, II
START_SHARE = 0.1  # of the start that is left in the teacher after STEPS, as in scripts/compare_methods.sh


@dataclass(frozen=True)
class Arm:
    """One way of training.

    `wordings`: which of a question's wordings (0: original, 1: rephrased) stand for the views original and rephrased.
    """

    name: str
    method: Method
    wordings: tuple[int, ...] = (0,)
    num_votes: int = NUM_ROLLOUTS
    payout: Payout = "hard"
    min_agreement: float = 0.0
    kl_coef: float = KL
    teacher_moves: bool = True
    lora_rank: int = 0  # 0: all weights are trained

    @property
    def learning_rate(self) -> float:
        """An adapter's is ten times as high, as in the run scripts."""
        return 10 * LEARNING_RATE if self.lora_rank else LEARNING_RATE

    @property
    def name_in_product(self) -> str:
        """What the run scripts call the method on these wordings."""
        return IN_PRODUCT.get((self.method.name, self.wordings), self.method.name)

    @property
    def rollouts(self) -> int:
        """Generated responses per question, in multiples of G."""
        return len(self.wordings) * (self.num_votes // NUM_ROLLOUTS + self.method.needs_teacher)


BOTH, TWICE = (0, 1), (0, 0)
IN_PRODUCT = {
    ("majority_voting", BOTH): "majority_voting_both_views",
    ("co_rewarding_I", TWICE): "co_rewarding_I_same_wording",
}
"""Methods with another name on other wordings."""
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("ground truth", METHODS["ground_truth"]),
        Arm("majority voting", METHODS["majority_voting"]),
        Arm("I", METHODS["co_rewarding_I"], BOTH),
        Arm("II", METHODS["co_rewarding_II"], kl_coef=KL_OF_TEACHER),
        Arm("majority voting, both wordings", METHODS["majority_voting"], BOTH),
        Arm("I, same wording twice", METHODS["co_rewarding_I"], TWICE),
        Arm("III", METHODS["co_rewarding_III"], BOTH, kl_coef=KL_OF_TEACHER),
        Arm("II, frozen teacher", METHODS["co_rewarding_II"], kl_coef=KL_OF_TEACHER, teacher_moves=False),
        Arm("II, LoRA", METHODS["co_rewarding_II"], kl_coef=KL_OF_TEACHER, lora_rank=8),
        Arm("majority voting, 2 G votes", METHODS["majority_voting"], num_votes=2 * NUM_ROLLOUTS),
        Arm("soft vote", METHODS["majority_voting"], payout="soft"),
        Arm("I, KL x 10", METHODS["co_rewarding_I"], BOTH, kl_coef=10 * KL),
        Arm("I, half must agree", METHODS["co_rewarding_I"], BOTH, min_agreement=0.5),
        Arm("self-certainty", METHODS["self_certainty"]),
        Arm("entropy", METHODS["entropy"]),
        Arm("format only", METHODS["format_only"]),
        Arm("random", METHODS["random"]),
    )
}


@dataclass(frozen=True)
class Claim:
    """`better` − `worse` > 0, in greedy accuracy on held-out questions in both wordings unless `of` says otherwise.

    ARM@STEP compares at that step, else at the last one.
    """

    says: str
    better: str
    worse: str
    of: str = "accuracy"


EARLY = STEPS // 4
"""The fixed step that an arm's end is compared with: a peak chosen afterwards is above the end by chance."""

CLAIMS = (
    Claim("Majority voting falls after a quarter of the steps", f"majority voting@{EARLY}", "majority voting"),
    Claim("and its reward rises meanwhile", "majority voting", f"majority voting@{EARLY}", of="reward"),
    Claim("II is better than majority voting in the end", "II", "majority voting"),
    Claim("II corrupts fewer questions than majority voting", "majority voting", "II", of="corrupted"),
    Claim("The teacher has to move", "II", "II, frozen teacher"),
    Claim("I is better than majority voting in the end", "I", "majority voting"),
    Claim("and than majority voting with the same data and compute", "I", "majority voting, both wordings"),
    Claim("and by the other wording, not only by other rollouts", "I", "I, same wording twice"),
    Claim("Votes of other rollouts alone help", "I, same wording twice", "majority voting, 2 G votes"),
    Claim("I falls after a quarter of the steps", f"I@{EARLY}", "I"),
    Claim("A tenfold KL coefficient saves I from its fall", "I, KL x 10", "I"),
    Claim("Labels only where half agree save I from its fall", "I, half must agree", "I"),
    Claim("III is better than I", "III", "I"),
    Claim("III is better than II", "III", "II"),
    Claim("More votes help majority voting", "majority voting, 2 G votes", "majority voting"),
    Claim("Soft votes help majority voting", "soft vote", "majority voting"),
    Claim("The true answers are better than the best of these: than II", "ground truth", "II"),
    Claim("and than I", "ground truth", "I"),
    # written later, before any arm had an adapter
    Claim("All weights are better than an adapter of rank 8", "II", "II, LoRA"),
    Claim("II with an adapter is better than majority voting of all weights", "II, LoRA", "majority voting"),
)
