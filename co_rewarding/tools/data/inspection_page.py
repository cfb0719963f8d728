# SPDX-License-Identifier: Apache-2.0
"""An inspection as text for a terminal, as JSON, and as one HTML page without scripts or outside resources.

Questions may come from a model: whatever they hold is shown, never interpreted. Markup is escaped, control characters
(terminal sequences, right-to-left overrides, invisible ones) are spelled out, and a content policy in the page forbids
scripts and requests. Long texts are cut: at TEXT_CHARS in the terminal, at PAGE_CHARS on the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape

from co_rewarding.tools.cli import visible
from co_rewarding.tools.data.inspection import FileReport, Finding, Lengths, PairReport, Sample

TEXT_CHARS, PAGE_CHARS = 600, 6000
BARS = 24

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --bad: #c2410c; --bar: #0072b2; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, li { overflow-wrap: anywhere; } h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { text-align: left; vertical-align: top; padding: .2rem 1.2rem .2rem 0; }
th { font-weight: 600; } td.n { font-variant-numeric: tabular-nums; }
.bad { color: var(--bad); font-weight: 600; }
.files { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.5rem; }
.bars { display: flex; align-items: flex-end; height: 4rem; gap: 1px; border-bottom: 1px solid var(--line); }
.bars i { flex: 1; background: var(--bar); min-height: 0; }
.ends { display: flex; justify-content: space-between; font-size: .8rem; opacity: .7; }
.sample { border-top: 1px solid var(--line); padding: .6rem 0 1rem; }
.sample p { margin: 0 0 .4rem; font-size: .85rem; opacity: .8; overflow-wrap: anywhere; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
.texts div { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .6rem .8rem;
  border-radius: .3rem; }
"""


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
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Data inspection</title><style>{_STYLE}</style></head><body>",
        "<h1>Data inspection</h1>",
        '<div class="files">',
        *(_file_section(report, _bar_width(files)) for report in files),
        "</div>",
    ]
    if pair is not None:
        parts.append("<h2>Pairs</h2>")
        if pair.length_ratio is not None:
            parts.append(f"<p>{_html(_ratio(pair))}</p>")
        parts.append(_finding_list(pair.findings))
    if samples:
        parts.append(f"<h2>{len(samples)} random {'pairs' if len(files) == 2 else 'rows'}</h2>")
    for sample in samples:
        texts = "".join(f'<div dir="auto">{_html(text)}</div>' for text in sample.texts)
        parts.append(f'<div class="sample"><p>{_html(_sample_title(sample))}</p><div class="texts">{texts}</div></div>')
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _file_section(report: FileReport, bar_width: int) -> str:
    table = [("rows", f"{report.num_rows:,}"), *((x.counted, str(x)) for x in report.lengths)]
    rows = "".join(f'<tr><th>{_html(key)}</th><td class="n">{_html(value)}</td></tr>' for key, value in table)
    bars = _bars(report.lengths[-1], bar_width) if report.lengths else ""
    return (
        f"<section><h2>{_html(report.name)}</h2><table>{rows}</table>{bars}{_finding_list(report.findings)}</section>"
    )


def _bar_width(files: Sequence[FileReport]) -> int:
    """Lengths a bar, the same for all files: the bars but the last reach the largest 95th percentile."""
    return max([1, *(-(-(report.lengths[-1].p95 + 1) // BARS) for report in files if report.lengths)])


def _bars(lengths: Lengths, width: int) -> str:
    """Histogram with a last bar for all that is longer."""
    counts = [0] * (BARS + 1)
    for value in lengths.values:
        counts[min(value // width, BARS)] += 1
    highest = max(counts)
    bars = "".join(
        f'<i style="height:{100 * n / highest:.1f}%" title="{i * width}'
        f'{f" to {(i + 1) * width - 1}" if i < BARS else " and more"}: {n}"></i>'
        for i, n in enumerate(counts)
    )
    ends = f"<span>0 {_html(lengths.counted)}</span><span>{BARS * width} and more</span>"
    return f'<div class="bars">{bars}</div><div class="ends">{ends}</div>'


def _finding_list(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing to report.</p>"
    items = (
        f"<li>{'<span class=bad>Problem:</span> ' if finding.is_problem else ''}{_html(str(finding))}</li>"
        for finding in findings
    )
    return f"<ul>{''.join(items)}</ul>"


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return ["  nothing to report"]
    return [f"  {'PROBLEM' if f.is_problem else 'note'}: {visible(str(f), TEXT_CHARS)}" for f in findings]


def _ratio(pair: PairReport) -> str:
    low, median, high = pair.length_ratio or (0.0, 0.0, 0.0)
    return f"length of the rephrased question / original: median {median:.2f}, 5 to 95 %: {low:.2f} to {high:.2f}"


def _sample_title(sample: Sample) -> str:
    truth = visible(sample.ground_truth, 200).replace("\n", " ") or "none"
    return f"row {sample.row}, index {visible(sample.question_id, 100)}, ground truth: {truth}"


def _html(text: str) -> str:
    return escape(visible(text, PAGE_CHARS), quote=True)
