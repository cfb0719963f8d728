# SPDX-License-Identifier: Apache-2.0
"""The full circle: train, export student and teacher, evaluate both, export again, compare, draw, look at the page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from e2e_runs import REPO, finish, metrics_of, rows_of, start
from transformers import AutoModelForCausalLM

pytestmark = [pytest.mark.e2e, pytest.mark.long]

STEP, LIMIT = 2, 20


def script(toy: Path, name: str, *arguments: object) -> str:
    """Output of scripts/NAME, which must end well."""
    command = [str(part) for part in (sys.executable, REPO / "scripts" / name, *arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=toy, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def evaluate(toy: Path, model: Path, *arguments: object) -> str:
    return script(toy, "evaluate.py", "--model", model, "--max_tokens", 32, "--kv_cache_mb", 256, *arguments)


@pytest.fixture(scope="module")
def run_dir(toy: Path) -> Path:
    run = start(
        "II", toy, "circle", f"trainer.total_training_steps={STEP}", SAVE_FREQ=str(STEP), TEST_FREQ=str(STEP),
        TEACHER_NUM_ROLLOUTS="4",
    )  # fmt: skip
    finish(run, toy / "circle.log")
    return toy / "runs/co-rewarding/circle"


@pytest.fixture(scope="module")
def exported(toy: Path, run_dir: Path) -> dict[str, Path]:
    """The two exports, each evaluated greedily on the questions of validation and exported again."""
    folders = {}
    for weights in ("student", "teacher"):
        told = script(toy, "export_checkpoint.py", run_dir, "--weights", weights)
        folders[weights] = run_dir / f"export/step_{STEP}_{weights}"
        assert f"{weights} of step {STEP}: {folders[weights]}" in told
        evaluate(toy, folders[weights], "--data", f"toy={toy}/data/test.parquet", "--temperature", 0)
        assert "only its card is rewritten" in script(toy, "export_checkpoint.py", run_dir, "--weights", weights)
    return folders


def result_of(run_dir: Path, weights: str) -> dict:
    (path,) = [path for path in (run_dir / "evaluation").glob("*/results.json") if weights in path.parent.name]
    return json.loads(path.read_text())


def test_the_exported_student_is_what_training_validated(run_dir: Path, exported: dict[str, Path]) -> None:
    trained = metrics_of(run_dir)[STEP]["val-core/toy_arithmetic/acc/mean@1"]
    (accuracy,) = result_of(run_dir, "student")["tasks"]["toy"]["accuracy"].values()
    assert accuracy["value"] == pytest.approx(trained)  # the same weights, questions, greedy decoding and grader
    (path,) = [path for path in (run_dir / "evaluation").glob("*/graded/toy.jsonl") if "student" in str(path)]
    texts = {row["question"]: row["response"] for row in rows_of(path)}
    validated = rows_of(run_dir / f"validation/{STEP}.jsonl")
    assert {row["input"].split("}.")[-1]: row["output"] for row in validated} == texts


def test_student_and_teacher_are_two_models(exported: dict[str, Path]) -> None:
    student, teacher = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in exported.values())
    assert not all(torch.equal(student[name], teacher[name]) for name in student)


def test_each_card_tells_its_own_evaluation(run_dir: Path, exported: dict[str, Path]) -> None:
    for weights, folder in exported.items():
        card = (folder / "README.md").read_text()
        (accuracy,) = result_of(run_dir, weights)["tasks"]["toy"]["accuracy"].values()
        table = card[card.index("## Evaluation") : card.index("## Made with")]
        assert f"{100 * accuracy['value']:.2f}" in table  # per cent
        assert f"{weights} after {STEP} steps" in card and "![Curves" in card
        assert (folder / "training_curves.png").stat().st_size > 1000


def test_real_questions_and_one_table_for_both(
    toy: Path, run_dir: Path, exported: dict[str, Path], real_data: Path
) -> None:
    """A model of half a million parameters solves none of them; what counts is that they are asked and graded."""
    for folder in exported.values():
        math = f"math={real_data}/math/test.parquet"
        evaluate(toy, folder, "--data", math, "--limit", LIMIT, "--temperature", 0)
    script(toy, "evaluate.py", "--compare", run_dir, "--output_dir", toy / "compared")
    table = (toy / "compared/table.md").read_text()
    assert "student" in table and "teacher" in table and "math" in table
    assert "teacher" in (toy / "compared/table.tex").read_text()
    asked = pq.read_table(real_data / "math/test.parquet", columns=["prompt"]).slice(0, LIMIT).to_pylist()
    (graded,) = (run_dir / "evaluation").glob("*student/graded/math.jsonl")
    assert {row["question"] for row in rows_of(graded)} == {row["prompt"][-1]["content"] for row in asked}


def test_figure_and_page(toy: Path, run_dir: Path) -> None:
    script(toy, "report.py", run_dir, "--html", toy / "page.html")
    assert (run_dir / "curves.png").stat().st_size > 10_000
    page = (toy / "page.html").read_text()
    shown = set(re.findall(r"<summary><b>(\d+)</b>", page))
    assert shown and shown <= {row["question"] for row in rows_of(run_dir / f"rollouts/{STEP}.jsonl")} | {
        row["question"] for row in rows_of(run_dir / "rollouts/1.jsonl")
    }
    assert "teacher" in page and not re.search(r"""(?:src|href)=["']https?://""", page)  # nothing from elsewhere
