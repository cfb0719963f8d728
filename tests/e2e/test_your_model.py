# SPDX-License-Identifier: Apache-2.0
"""A model without a chat template, asked with one that refuses the system role, without thinking: trained with both
anchors of the KL term, exported, evaluated with training's prompts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from e2e_runs import REPO, finish, metrics_of, start
from transformers import AutoTokenizer

from co_rewarding.tools.quickstart.tiny_model import CHAT_TEMPLATE

pytestmark = [pytest.mark.e2e, pytest.mark.long]

TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + CHAT_TEMPLATE
    + "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}{{ ' ' }}{% endif %}"
)


@pytest.fixture(scope="module")
def run_dirs(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three steps of Co-rewarding-II by anchor, with a teacher that moves."""
    folder = tmp_path_factory.mktemp("own")
    model, template = folder / "model", folder / "own.jinja"
    shutil.copytree(toy / "model", model, ignore=shutil.ignore_patterns("chat_template.jinja"))
    assert AutoTokenizer.from_pretrained(model).chat_template is None
    template.write_text(TEMPLATE)
    found = {}
    for anchor in ("teacher", "start"):
        name = f"own_{anchor}"
        run = start(
            "II", toy, name, "trainer.total_training_steps=3", "actor_rollout_ref.teacher.start_share=0.1",
            MODEL_PATH=str(model), CHAT_TEMPLATE=str(template), ENABLE_THINKING="false", KL_ANCHOR=anchor,
            LEARNING_RATE="5e-4", MAX_PROMPT_LENGTH="160", TEACHER_NUM_ROLLOUTS="4", SAVE_FREQ="3", TEST_FREQ="3",
        )  # fmt: skip
        log = finish(run, toy / f"{name}.log")
        assert log.count("the chat template takes no system message") == 1
        found[anchor] = toy / "runs/co-rewarding" / name
    return found


def test_the_anchors_part_when_the_teacher_moves(run_dirs: dict[str, Path]) -> None:
    kl = {
        anchor: [metrics_of(run_dir)[step]["actor/kl_loss"] for step in (1, 2, 3)]
        for anchor, run_dir in run_dirs.items()
    }
    for first, *later in kl.values():  # one update a step: at the first the policy is the model of the start
        assert first == pytest.approx(0, abs=1e-6)
        assert min(later) > 0
    assert kl["start"][2] > kl["teacher"][2]  # the teacher follows the student, the start does not


def test_an_export_is_asked_as_in_training(toy: Path, run_dirs: dict[str, Path]) -> None:
    run_dir = run_dirs["start"]

    def script(name: str, *arguments: object) -> None:
        command = [str(part) for part in (sys.executable, REPO / "scripts" / name, *arguments)]
        done = subprocess.run(
            command, cwd=toy, capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]

    script("export_checkpoint.py", run_dir)
    exported = run_dir / "export/step_3_student"
    assert AutoTokenizer.from_pretrained(exported).chat_template == TEMPLATE
    script(
        "evaluate.py", "--model", exported, "--data", f"toy={toy}/data/test.parquet", "--limit", 8,
        "--temperature", 0, "--max_tokens", 32, "--kv_cache_mb", 256,
    )  # fmt: skip
    (path,) = (run_dir / "evaluation").glob("*/results.json")
    result = json.loads(path.read_text())["tasks"]["toy"]
    assert result["sampling"]["chat_template_kwargs"] == {"enable_thinking": False}
    prompt = pq.read_table(toy / "data/test.parquet").slice(0, 1).to_pylist()[0]["prompt"]
    system, user = (message["content"] for message in prompt)
    asked = result["prompt"]["example"]
    assert asked == f"<|user|>{system}\n\n{user}<|assistant|> "
    # greedy, and nothing between the last validation and the save: the same responses
    validated = [json.loads(line) for line in (run_dir / "validation/3.jsonl").read_text().splitlines()]
    answers = {row["input"]: row["output"] for row in validated}
    graded = [json.loads(line) for line in (path.parent / "generations/toy.jsonl").read_text().splitlines()[1:]]
    assert len(graded) == 8 and {row["response"] for row in graded} <= set(answers.values())
