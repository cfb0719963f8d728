# SPDX-License-Identifier: Apache-2.0
"""An inspection as text for a terminal, as JSON, and as one HTML page without scripts or outside resources.

Questions may come from a model: their text is shown, never interpreted. Control characters (terminal sequences,
right-to-left overrides, invisible ones) are spelled out; long texts are cut, at TEXT_CHARS in the terminal and at
PAGE_CHARS on the page (templates/inspection.html.jinja).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from co_rewarding.tools.cli import visible
from co_rewarding.tools.data.inspection import FileReport, Finding, Lengths, PairReport, Sample
from co_rewarding.tools.templates import render

TEXT_CHARS, PAGE_CHARS = 600, 6000
BARS = 24


def as_text(files: Sequence[FileReport], pair: PairReport | None, samples: Sequence[Sample]) -> str:
    """The inspection for a terminal."""
    lines = []
    for report in files:
        lines.append(f"{visible(report.name, TEXT_CHARS)}: {report.num_rows:,} rows")
        lines += [f"  {lengths.counted}: {lengths}" for lengths in report.lengths]
        lines += _finding_lines(report.findings)
    if pair is not None:
        lines.append("pairs:")
        if pair.length_ratio is not None:
            lines.append(f"  {_ratio(pair)}")
        lines += _finding_lines(pair.findings)
    for sample in samples:
        lines += ["", f"--- {_sample_title(sample)}"]
        for text in sample.texts:
            lines += [*("  " + line for line in visible(text, TEXT_CHARS).split("\n")), "  ---"]
        lines.pop()
    return "\n".join(lines)


def as_json(files: Sequence[FileReport], pair: PairReport | None) -> str:
    """Lengths and findings, every row named."""
    report = {"files": [asdict(file) for file in files], "pair": None if pair is None else asdict(pair)}
    for file in report["files"]:
        for lengths in file["lengths"]:
            del lengths["values"]
    return json.dumps(report, indent=1) + "\n"


def as_page(files: Sequence[FileReport], pair: PairReport | None, samples: Sequence[Sample]) -> str:
    """The inspection as a complete HTML page."""
    width = _bar_width(files)
    return render(
        "inspection.html",
        title="Data inspection",
        files=[(file, _bars(file.lengths[-1], width) if file.lengths else []) for file in files],
        longest=BARS * width,
        pair=pair,
        ratio=_ratio(pair) if pair is not None and pair.length_ratio is not None else "",
        samples=[(_sample_title(sample), sample.texts) for sample in samples],
        page_chars=PAGE_CHARS,
    )


def _bar_width(files: Sequence[FileReport]) -> int:
    """Lengths per bar, the same for all files: all bars but the last reach the largest 95th percentile."""
    return max([1, *(-(-(report.lengths[-1].p95 + 1) // BARS) for report in files if report.lengths)])


def _bars(lengths: Lengths, width: int) -> list[tuple[float, str]]:
    """Height in percent and title of each bar of a histogram; the last has all longer ones."""
    counts = [0] * (BARS + 1)
    for value in lengths.values:
        counts[min(value // width, BARS)] += 1
    spans = [f"{i * width} to {(i + 1) * width - 1}" for i in range(BARS)] + [f"{BARS * width} and more"]
    return [(100 * n / max(counts), f"{span}: {n}") for n, span in zip(counts, spans, strict=True)]


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return ["  nothing to report"]
    return [f"  {'PROBLEM' if f.is_problem else 'note'}: {visible(str(f), TEXT_CHARS)}" for f in findings]


def _ratio(pair: PairReport) -> str:
    low, median, high = pair.length_ratio or (0.0, 0.0, 0.0)
    return f"length of the rephrased question / original: median {median:.2f}, 5 to 95 %: {low:.2f} to {high:.2f}"


def _sample_title(sample: Sample) -> str:
    truth = visible(sample.ground_truth, 200).replace("\n", " ") or "none"
    why = f"; {visible('; '.join(sample.findings), 400)}" if sample.findings else ""
    return f"row {sample.row}, index {visible(sample.question_id, 100)}, ground truth: {truth}{why}"
