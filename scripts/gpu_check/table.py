# SPDX-License-Identifier: Apache-2.0
"""Results of all stages as one table: OUT/table.md, and on the terminal.

    python scripts/gpu_check/table.py OUT STAGES SELECTED COMMAND      two lists of names, with a space between

Exit code: 0 all selected stages passed, 1 one failed, 3 all that ran passed, but some stages were not reached.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rows import Row, read_rows

from co_rewarding.storage import provenance

HEAD = "| stage | check | result | value | seconds |\n|---|---|---|---|---:|"


@dataclass(frozen=True)
class Stage:
    name: str
    result: str  # "ok", "FAILED", "not reached" or "not selected"
    why: str
    seconds: str
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path, selected: bool) -> Stage:
        rows, status = read_rows(folder), folder / "status"
        if not status.is_file():
            return cls(folder.name, "not reached" if selected else "not selected", "", "", rows)
        result, seconds, why = status.read_text(encoding="utf-8").rstrip("\n").split("\t")
        return cls(folder.name, result, why, seconds, rows)

    def lines(self) -> list[str]:
        cells = [(self.name, "**the stage**", f"**{self.result}**", self.why, self.seconds)]
        cells += [
            (self.name, row.check, row.result, row.value, "" if row.seconds is None else f"{row.seconds:.1f}")
            for row in self.rows
        ]
        return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]


def exit_code(stages: list[Stage]) -> int:
    results = {stage.result for stage in stages}
    return 1 if "FAILED" in results else 3 if "not reached" in results else 0


def machine() -> str:
    """Card and driver, versions, commit."""
    card = os.environ.get("GPU_CHECK_CARD") or "0"
    query = ["nvidia-smi", "-i", card, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        card = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        card = "no GPU"
    return f"{card}; Python {sys.version.split()[0]}, {provenance.in_words(provenance.here())}"


def main() -> int:
    out, names, selected, command = Path(sys.argv[1]), sys.argv[2].split(), sys.argv[3].split(), sys.argv[4]
    stages = [Stage.read(out / "stages" / name, name in selected) for name in names]
    lines = [line for stage in stages for line in stage.lines()]
    text = f"{datetime.now():%Y-%m-%d %H:%M}, `{command.strip()}`: {machine()}\n\n{HEAD}\n" + "\n".join(lines) + "\n"
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return exit_code([stage for stage in stages if stage.name in selected])


if __name__ == "__main__":
    sys.exit(main())
