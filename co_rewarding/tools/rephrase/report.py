# SPDX-License-Identifier: Apache-2.0
"""Output of a run: the report in Markdown, the quarantine in JSONL.

The quarantine has one object for each questionable row: dropped, kept despite an objection, or with different majority
answers of both views. Both files depend only on the outcomes: equal outcomes give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from co_rewarding.algo.voting import Vote
from co_rewarding.tools.data.validators import VALIDATORS
from co_rewarding.tools.rephrase.rewriting import FAILURES, Outcome
from co_rewarding.tools.rephrase.verify import PairCheck
from co_rewarding.tools.tables import to_markdown
from co_rewarding.tools.templates import render

EXAMPLES = 3  # examples per reason in the report
VERDICTS = ("same", "different", "undecided")
MEANINGS = FAILURES | {name: meaning for name, (meaning, _) in VALIDATORS.items()}


def reasons(outcome: Outcome) -> dict[str, str]:
    """Name and detail of all objections to a row."""
    if outcome.failure is not None:
        return {outcome.failure: FAILURES[outcome.failure]}
    return {finding.validator: finding.detail for finding in outcome.findings}


def check_fields(check: PairCheck) -> dict[str, Any]:
    """The check in a row's JSON."""
    return {
        "verdict": check.verdict,
        **{
            view: {"answer": vote.pseudo_label, "agreement": vote.agreement, "answers": vote.num_rollouts}
            for view, vote in (("original", check.original), ("rephrased", check.rephrased))
        },
    }


def quarantine(
    outcomes: Sequence[Outcome], questions_P: Sequence[str], checks: Sequence[PairCheck], dropped: set[int]
) -> Iterable[dict[str, Any]]:
    """The quarantine's objects. `dropped`: rows dropped for their verdict."""
    verdicts = {check.row: check for check in checks}
    for outcome in outcomes:
        check = verdicts.get(outcome.row)
        against = reasons(outcome)
        if check is not None and check.verdict == "different":
            against["different_answers"] = f"{check.original.pseudo_label} and {check.rephrased.pseudo_label}"[:200]
        if not against:
            continue
        yield {
            "row": outcome.row,
            "outcome": "kept" if outcome.is_kept and outcome.row not in dropped else "left out",
            "reasons": [{"name": name, "detail": detail} for name, detail in against.items()],
            "attempts": outcome.attempts,
            "question": questions_P[outcome.row],
            "rewrite": outcome.rewrite if outcome.is_kept else outcome.rejected,
            "response": outcome.detail or None,
            **({"verify": check_fields(check)} if check is not None else {}),
        }


def report(
    name: str,
    settings: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    questions_P: Sequence[str],
    checks: Sequence[PairCheck],
    dropped: set[int],
) -> str:
    """The report, from rewriting.md.jinja."""
    kept = [o for o in outcomes if o.is_kept and o.row not in dropped]
    first = sum(o.attempts == 1 for o in kept)
    rows = {"in the input": len(outcomes), "in the three outputs": len(kept), "... at the first attempt": first}
    tries = Counter(reason for o in outcomes for reason in o.tries)
    final = Counter(reason for o in outcomes for reason in reasons(o))
    names = sorted(tries | final, key=lambda reason: (-tries[reason], -final[reason], reason))
    found = [(reason, tries[reason], final[reason], MEANINGS[reason]) for reason in names]
    verdicts = Counter(check.verdict for check in checks)
    shares = [(v, verdicts[v], f"{100 * verdicts[v] / len(checks):.1f} %") for v in VERDICTS] if checks else []
    rewrites = {o.row: o.rewrite or "" for o in outcomes}
    different = [check for check in checks if check.verdict == "different"][: 3 * EXAMPLES]
    return render(
        "rewriting.md",
        name=name,
        summary=summary(outcomes, checks, dropped),
        settings=_table(("setting", "value"), settings.items()),
        rows=_table(("", "rows"), (rows | {"left out": len(outcomes) - len(kept)}).items()),
        reasons=_table(("reason", "attempts", "final rows", "meaning"), found) if found else "",
        examples=[(reason, _examples(reason, outcomes, questions_P)) for reason in sorted(final)],
        verdicts=_table(("verdict", "pairs", "share"), shares) if checks else "",
        views=[_view(view, [getattr(check, view) for check in checks]) for view in ("original", "rephrased")],
        different=[
            {
                "row": check.row,
                "original": _votes(check.original),
                "rephrased": _votes(check.rephrased),
                "question": questions_P[check.row],
                "rewrite": rewrites[check.row],
            }
            for check in different
        ],
    )


def summary(outcomes: Sequence[Outcome], checks: Sequence[PairCheck], dropped: set[int]) -> str:
    """One line."""
    kept = sum(o.is_kept and o.row not in dropped for o in outcomes)
    flagged = sum(o.is_kept and bool(o.findings) for o in outcomes)
    text = f"{kept:,} of {len(outcomes):,} rows rewritten, {len(outcomes) - kept:,} left out"
    if flagged:
        text += f", {flagged:,} kept despite an objection"
    if checks:
        verdicts = Counter(check.verdict for check in checks)
        text += "; answers: " + ", ".join(f"{verdicts[verdict]:,} {verdict}" for verdict in VERDICTS)
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return to_markdown(pd.DataFrame(list(rows), columns=list(head)))


def _examples(reason: str, outcomes: Sequence[Outcome], questions_P: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "row": outcome.row,
            "detail": reasons(outcome)[reason][:200],
            "question": questions_P[outcome.row],
            "rewrite": outcome.rewrite or outcome.rejected,
            "response": outcome.detail,
        }
        for outcome in outcomes
        if reason in reasons(outcome)
    ][:EXAMPLES]


def _view(name: str, votes: Sequence[Vote]) -> dict[str, Any]:
    answered = sum(vote.num_answered for vote in votes) / max(1, sum(vote.num_rollouts for vote in votes))
    agreement = sum(vote.agreement for vote in votes) / max(1, len(votes))
    return {"name": name, "agreement": agreement, "answered": 100 * answered}


def _votes(vote: Vote) -> str:
    return f"{str(vote.pseudo_label)[:200]} ({vote.num_votes} of {vote.num_rollouts})"
