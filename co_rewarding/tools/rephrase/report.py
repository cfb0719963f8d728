# SPDX-License-Identifier: Apache-2.0
"""What a run tells: the report in Markdown, the quarantine in JSONL.

The quarantine has one object for each row that is not simply right: left out, kept in spite of an objection, or with
wordings whose majority answers differ. All of it is a function of the outcomes alone: two runs with the same outcomes
write the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from co_rewarding.tools.data.validators import VALIDATORS
from co_rewarding.tools.rephrase.rewriting import FAILURES, Outcome
from co_rewarding.tools.rephrase.verify import PairCheck

EXAMPLES = 3  # of each reason in the report
MAX_SHOWN_CHARS = 600


def reasons(outcome: Outcome) -> list[dict[str, str]]:
    """Name and detail of everything against a row."""
    if outcome.failure is not None:
        return [{"name": outcome.failure, "detail": FAILURES[outcome.failure]}]
    return [{"name": finding.validator, "detail": finding.detail} for finding in outcome.findings]


def check_fields(check: PairCheck) -> dict[str, Any]:
    """What a row's JSON says about its check."""
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
    """The quarantine's objects. `dropped`: rows left out for the verdict on them."""
    verdicts = {check.row: check for check in checks}
    for outcome in outcomes:
        check = verdicts.get(outcome.row)
        against = reasons(outcome)
        if check is not None and check.verdict == "different":
            detail = f"{check.original.pseudo_label} and {check.rephrased.pseudo_label}"
            against.append({"name": "different_answers", "detail": detail[:200]})
        if not against:
            continue
        yield {
            "row": outcome.row,
            "outcome": "kept" if outcome.is_kept and outcome.row not in dropped else "left out",
            "reasons": against,
            "attempts": outcome.attempts,
            "question": questions_P[outcome.row],
            "rewrite": outcome.rewrite if outcome.is_kept else outcome.rejected,
            "response": outcome.detail or None,
            **({"verify": check_fields(check)} if check is not None else {}),
        }


def markdown(
    title: str,
    settings: dict[str, Any],
    outcomes: Sequence[Outcome],
    questions_P: Sequence[str],
    checks: Sequence[PairCheck],
    dropped: set[int],
) -> str:
    """The report."""
    kept = [o for o in outcomes if o.is_kept and o.row not in dropped]
    lines = [f"# {title}", "", summary(outcomes, checks, dropped), ""]
    lines += ["| setting | value |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in settings.items()]
    lines += ["", "## Rows", "", "| | rows |", "|---|---|"]
    lines += [f"| in the input | {len(outcomes)} |", f"| in the three outputs | {len(kept)} |"]
    first = sum(o.attempts == 1 for o in kept)
    lines += [f"| ... at the first attempt | {first} |", f"| left out | {len(outcomes) - len(kept)} |"]
    tries = Counter(name for o in outcomes for name in o.tries)
    final = Counter(entry["name"] for o in outcomes for entry in reasons(o))
    if tries or final:
        meanings = FAILURES | {name: meaning for name, (meaning, _) in VALIDATORS.items()}
        lines += ["", "## Reasons", "", "| reason | attempts | rows in the end | meaning |", "|---|---|---|---|"]
        for name in sorted(tries | final, key=lambda n: (-tries[n], -final[n], n)):
            lines.append(f"| {name} | {tries[name]} | {final[name]} | {meanings[name]} |")
        for name in sorted(final):
            lines += ["", f"### {name}"]
            shown = [o for o in outcomes if any(entry["name"] == name for entry in reasons(o))][:EXAMPLES]
            for outcome in shown:
                detail = next(entry["detail"] for entry in reasons(outcome) if entry["name"] == name)
                lines += ["", f"Row {outcome.row}: {_cell(detail)}", "", *_quote("question", questions_P[outcome.row])]
                if outcome.rewrite or outcome.rejected:
                    lines += _quote("rewrite", outcome.rewrite or outcome.rejected or "")
                elif outcome.detail:
                    lines += _quote("response", outcome.detail)
    if checks:
        lines += ["", "## Pairs whose wordings were answered", "", *_check_table(checks)]
        rewrites = {o.row: o.rewrite or "" for o in outcomes}
        for check in [check for check in checks if check.verdict == "different"][: 3 * EXAMPLES]:
            lines += ["", f"Row {check.row}: {_votes(check)}", "", *_quote("question", questions_P[check.row])]
            lines += _quote("rewrite", rewrites[check.row])
    return "\n".join(lines) + "\n"


def summary(outcomes: Sequence[Outcome], checks: Sequence[PairCheck], dropped: set[int]) -> str:
    """One line."""
    kept = sum(o.is_kept and o.row not in dropped for o in outcomes)
    flagged = sum(o.is_kept and bool(o.findings) for o in outcomes)
    text = f"{kept:,} of {len(outcomes):,} rows rewritten, {len(outcomes) - kept:,} left out"
    if flagged:
        text += f", {flagged:,} kept in spite of an objection"
    if checks:
        verdicts = Counter(check.verdict for check in checks)
        text += "; answers: " + ", ".join(f"{verdicts[v]:,} {v}" for v in ("same", "different", "undecided"))
    return text


def _check_table(checks: Sequence[PairCheck]) -> list[str]:
    verdicts = Counter(check.verdict for check in checks)
    lines = ["| verdict | pairs | share |", "|---|---|---|"]
    for verdict in ("same", "different", "undecided"):
        lines.append(f"| {verdict} | {verdicts[verdict]} | {100 * verdicts[verdict] / len(checks):.1f} % |")
    for view in ("original", "rephrased"):
        votes = [getattr(check, view) for check in checks]
        mean = sum(vote.agreement for vote in votes) / len(votes)
        answered = sum(vote.num_answered for vote in votes) / max(1, sum(vote.num_rollouts for vote in votes))
        lines += ["", f"{view}: mean agreement {mean:.2f}, {100 * answered:.0f} % of the responses have an answer"]
    return lines


def _votes(check: PairCheck) -> str:
    sides = (("question", check.original), ("rewrite", check.rephrased))
    return ", ".join(
        f"{name} {_cell(vote.pseudo_label)} ({vote.num_votes} of {vote.num_rollouts})" for name, vote in sides
    )


def _quote(name: str, text: str) -> list[str]:
    """A fenced block that the text cannot close."""
    shown = text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + " ..."
    shown = shown.encode("utf-8", "replace").decode()
    fence = "~" * 3
    while fence in shown:
        fence += "~"
    return [f"{name}:", "", fence, *shown.splitlines(), fence, ""]


def _cell(value: Any) -> str:
    text = " ".join(str(value).encode("utf-8", "replace").decode().split())[:200]
    return text.replace("|", "\\|")
