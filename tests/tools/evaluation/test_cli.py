# SPDX-License-Identifier: Apache-2.0
"""The command line without an engine: what it refuses, in one line, and what needs no model."""

import errno
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from co_rewarding.storage.rows import file_sha256, make_row, write_rows
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.evaluation import cli
from co_rewarding.tools.evaluation.cli import _add, main
from co_rewarding.tools.evaluation.model import model_fingerprint
from co_rewarding.tools.evaluation.options import parse_options
from co_rewarding.tools.evaluation.results import FORMAT, read_result
from co_rewarding.tools.evaluation.tasks import read_questions

CONFIG = '{"model_type": "llama"}'  # on a machine with a GPU it is read


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    write_rows([make_row("toy", f"{i} + 1?", str(i + 1) if i else "", i, "test") for i in range(3)], path)
    return path


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """refusal(*arguments): the one line with which the command ends in exit code 2."""

    def refuse(*arguments: Any) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("evaluate.py: error: ")
        assert len(line) < 500
        return line

    return refuse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing: give one of --model, --base_url, --regrade and --compare"),
        (["--model", "m", "--compare", "."], "--compare and --model: give one of --model"),
        (["--model", "m"], "no task: name some with --tasks"),
        (["--model", "m", "--tasks", "maths"], "--tasks maths: unknown; use math500, math500_lighteval, gsm8k"),
        (["--model", "m", "--tasks", "amc,amc"], "names a task twice"),
        (["--model", "m", "--tasks", "livecodebench"], "docs/EVALUATION.md has the recipe"),
        (["--model", "m", "--tasks", "amc", "--data_dir", "/no"], "python scripts/data_preprocess/amc.py"),
        (["--model", "m", "--data", "x.parquet"], "--data x.parquet: must be NAME=FILE"),
        (["--model", "m", "--data", "../x=x.parquet"], "must be NAME=FILE"),
        (["--model", "m", "--data", "a=x", "--data", "a=y"], "a was already given as x"),
        (["--model", "m", "--data", "ifeval=x.jsonl"], "must be a folder with google/IFEval"),
        (["--model", "m", "--data", "a=x", "--limit", "0"], "--limit 0: must be greater than or equal to 1"),
        (["--model", "m", "--data", "a=x", "--samples", "-1"], "--samples -1: must be greater than or equal to 1"),
        (["--model", "m", "--data", "a=x", "--temperature", "nan"], "--temperature nan: must be a finite number"),
        (["--model", "m", "--data", "a=x", "--top_p", "0"], "--top_p 0: must be greater than 0"),
        (["--model", "m", "--data", "a=x", "--temperature", "0", "--samples", "8"], "the same response 8 times"),
        (["--model", "m", "--data", "a=x", "--chat_template_kwargs", "{"], "--chat_template_kwargs {: must be a JSON"),
        (["--model", "m", "--data", "a=x", "--chat_template_kwargs", "[]"], "--chat_template_kwargs []: must be a val"),
        (["--base_url", "http://h/v1", "--tasks", "ifeval"], "lm_eval runs the model itself"),
        (
            ["--model", "m", "--data", "a=x", "--equivalence", "loose"],
            "--equivalence loose: must be 'math', 'string' or 'exact'",
        ),
        (
            ["--model", "m", "--data", "a=x", "--method", "co-rewarding"],
            "--method co-rewarding: must be 'base', 'ground_truth'",
        ),
        (["--model", "m", "--data", "a=x", "--output_dir", __file__], "is a file; name a folder"),
        (["--model", "/no/model", "--data", "a=x"], "--model /no/model does not exist"),
        (["--regrade", "/no.jsonl"], "no such file; name a JSONL file"),
        (["--regrade", __file__, "--limit", "5"], "--limit has no effect with --regrade"),
        (["--compare", ".", "--tasks", "amc"], "--tasks has no effect with --compare"),
        (["--compare", "/no"], "--compare /no: no such folder"),
    ],
)
def test_bad_options_are_reported_in_one_line(refusal: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in refusal(*arguments)


def test_bad_models_are_reported(refusal: Callable[..., str], tmp_path: Path, data: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    assert "has no config.json" in refusal("--model", model, "--data", f"toy={data}")
    (model / "config.json").write_text("{}")
    assert "has no weights (*.safetensors)" in refusal("--model", model, "--data", f"toy={data}")


def test_bad_data_is_reported(refusal: Callable[..., str], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    model = tmp_path / "model"
    model.mkdir()
    for name, text in (("config.json", CONFIG), ("model.safetensors", "")):
        (model / name).write_text(text)

    def refused(rows: list[dict[str, Any]]) -> str:
        path = tmp_path / "bad.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        return refusal("--model", model, "--data", f"bad={path}", "--output_dir", tmp_path / "out")

    user = {"role": "user", "content": "1 + 1?"}
    assert "has no rows" in refused([])
    as_text = {"prompt": "1 + 1?", "data_source": "x", "extra_info": {"index": 0}}
    assert "row 0: column 'prompt' is '1 + 1?'" in refused([as_text])
    assert "row 0: 'prompt' has no message of the user" in refused([{"prompt": [{"role": "system", "content": "x"}]}])
    assert "row 1: column 'prompt' is []" in refused([{"prompt": [user]}, {"prompt": []}])
    assert "must have a role and a content" in refused([{"prompt": [{"role": "user", "content": None}]}])
    assert "column 'reward_model' is 2" in refused([{"prompt": [user], "reward_model": 2}])
    (tmp_path / "text.parquet").write_text("no parquet")
    assert "not readable as parquet" in refusal("--model", model, "--data", f"bad={tmp_path / 'text.parquet'}")
    assert "no such file" in refusal("--model", model, "--data", f"bad={tmp_path / 'absent.parquet'}")


def test_an_export_says_its_method_and_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "my run/export/step_3_teacher"
    facts = {"method": "co_rewarding_II", "run": "my run", "step": 3, "weights": "teacher", "dtype": "float32"}
    for name, text in (("config.json", CONFIG), ("model.safetensors", ""), ("export.json", json.dumps(facts))):
        model.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(text)
    (tmp_path / "my run/metrics").mkdir()
    # a stand-in for lm_eval, which writes into the folder that follows --output_path
    lm_eval = tmp_path / "lm_eval"
    written = {"results": {"ifeval": {"prompt_level_strict_acc,none": 0.5}}, "n-samples": {}}
    find = 'while [ "$1" != --output_path ]; do shift; done; mkdir -p "$2"'
    lm_eval.write_text(f"#!/bin/sh\n{find}; echo '{json.dumps(written)}' > \"$2/results_x.json\"\n")
    lm_eval.chmod(0o755)
    arguments = ["--model", str(model), "--tasks", "ifeval", "--lm_eval", str(lm_eval)]
    assert main(arguments) == 0
    assert "| Co-rewarding-II | 50.00" in capsys.readouterr().out
    result = read_result(tmp_path / "my run/evaluation/my-run-step_3_teacher/results.json")
    assert (result["name"], result["method"]) == ("my run-step_3_teacher", "co_rewarding_II")
    assert main([*arguments, "--name", "mine", "--method", "co_rewarding_III"]) == 0  # what is said wins
    assert "| Co-rewarding-III | 50.00" in capsys.readouterr().out


def test_an_export_is_asked_as_its_run_asked(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"method": "entropy", "run": "r", "step": 3, "weights": "student", "chat_template_kwargs": {"a": False}}
    (tmp_path / "export.json").write_text(json.dumps(facts))
    asked = ["--model", str(tmp_path), "--data", f"toy={data}"]
    for more, expected in (([], {"a": False}), (["--chat_template_kwargs", "{}"], {})):
        options = parse_options([*asked, *more])
        options = cli._as_trained(options, cli._export_facts(str(tmp_path))["chat_template_kwargs"], "")
        assert options.drawing.chat_template_kwargs == expected
    assert capsys.readouterr().err.count("as in training: --chat_template_kwargs '{\"a\": false}'") == 1
    (tmp_path / "export.json").write_text(json.dumps(facts | {"chat_template_kwargs": 5}))
    assert cli._export_facts(str(tmp_path)) == {}


def test_a_chat_template_is_of_a_model_that_runs_here(refusal: Callable[..., str], tmp_path: Path, data: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("x")
    served = ["--base_url", "http://127.0.0.1:1/v1", "--data", f"toy={data}"]
    assert "a server uses its own" in refusal(*served, "--chat_template", template)
    assert "lm_eval runs ifeval" in refusal("--model", "m", "--tasks", "ifeval", "--chat_template", template)
    assert "no such file" in refusal("--model", "m", "--data", f"toy={data}", "--chat_template", tmp_path / "no")


def test_an_lm_eval_folder_of_another_command_is_reported_before_anything_is_generated(
    refusal: Callable[..., str], tmp_path: Path, data: Path
) -> None:
    model, folder = tmp_path / "model", tmp_path / "out"
    for path in (model / "config.json", model / "model.safetensors", folder / "lm_eval/ifeval/command.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CONFIG if path.name == "config.json" else "{}")
    arguments = ["--model", model, "--tasks", "ifeval", "--data", f"toy={data}", "--output_dir", folder]
    assert "made by another command line" in refusal(*arguments, "--lm_eval", "true")  # a command that is there
    assert not (folder / "generations").exists()


def test_a_set_without_a_ground_truth_is_named_before_anything_is_generated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows([make_row("toy", "1 + 1?", "", 0, "test")], tmp_path / "data.parquet")
    read_questions("toy", tmp_path / "data.parquet", samples=1)
    assert "data.parquet: no question has a ground truth, so there is no accuracy" in capsys.readouterr().err


def test_an_interrupted_evaluation_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "evaluate", interrupted)
    assert main(["--base_url", "http://h/v1", "--data", "a=x"]) == 130
    assert "interrupted\nFinished responses are kept: the same command resumes." in capsys.readouterr().err


def test_lm_eval_gets_as_many_gpus_as_the_option_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_attention_heads": 8, "hidden_size": 64}')
    monkeypatch.setattr(cli, "is_cpu", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)

    def words(*more: str) -> str:
        arguments = ["--model", str(tmp_path), "--tasks", "ifeval", "--lm_eval", "sh", *more]
        (command, _) = cli._harness_calls(parse_options(arguments), "files 1", tmp_path)["ifeval"]
        return " ".join(command)

    assert "tensor_parallel_size=4" in words()
    assert "tensor_parallel_size=2" in words("--tensor_parallel_size", "2")


def test_questions_and_limit(data: Path) -> None:
    found = read_questions("toy", data, samples=4, limit=2)
    assert [(q.index, q.text, q.ground_truth) for q in found.questions] == [(0, "0 + 1?", None), (1, "1 + 1?", "2")]
    assert found.num_rows == 3
    assert found.content_sha256 == read_questions("toy", data, samples=1).content_sha256  # of the file, not of the part


def test_tasks_come_in_the_order_of_the_tables(data: Path, tmp_path: Path) -> None:
    options = parse_options(
        ["--model", "m", "--tasks", "ifeval,gsm8k", "--data", f"mine={data}", "--data", f"gsm8k={data}"]
    )
    assert options.tasks == ["gsm8k", "ifeval", "mine"]


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    def model(name: str, weights: bytes) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        return model_fingerprint(str(folder))

    # 70,000 bytes: the first and the last block of 65,536 cover all of them
    first = model("a", b"\0" * 70_000)
    assert model("copy", b"\0" * 70_000) == first
    assert model("last", b"\0" * 69_999 + b"\1") != first
    assert model("longer", b"\0" * 70_001) != first


def test_regrading_writes_a_result_and_names_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = tmp_path / "run/validation/10.jsonl"
    dump.parent.mkdir(parents=True)
    rows = [{"input": f"q{i}", "output": rf"\boxed{{{i}}}", "gts": "1", "score": float(i < 2)} for i in range(4)]
    dump.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["--regrade", str(dump), "--output_dir", str(tmp_path / "out"), "--equivalence", "string"]) == 0
    out = capsys.readouterr().out
    assert "stored verdicts: 3 of 4 agree with ours" in out
    assert "question 0, response 0: stored right, here wrong; answer 0, ground truth 1" in out
    result = json.loads((tmp_path / "out/results.json").read_text())
    assert result["name"] == "run/10"
    assert result["tasks"]["validation"]["accuracy"]["pass@1"]["value"] == 0.25
    assert result["tasks"]["validation"]["grader"]["equivalence"] == "string"
    graded = [json.loads(line) for line in (tmp_path / "out/graded/validation.jsonl").read_text().splitlines()]
    assert [(row["correct"], row["stored"]) for row in graded] == [(False, True), (True, True)] + [(False, False)] * 2
    assert main(["--compare", str(tmp_path / "out"), "--output_dir", str(tmp_path / "across")]) == 0
    assert "| run/10  | 25.00 ± 25.00       |" in (tmp_path / "across/table.md").read_text()


def test_what_was_asked_in_lightevals_way_is_graded_again_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m/graded/gsm8k_lighteval.jsonl"
    path.parent.mkdir(parents=True)
    row = {"index": 0, "sample": 0, "question": "q", "ground_truth": "18", "response": "So 18 eggs.", "correct": True}
    path.write_text(json.dumps(row) + "\n")
    assert main(["--regrade", str(path)]) == 0
    assert "stored verdicts: 1 of 1 agree with ours" in capsys.readouterr().out


def test_regrading_overwrites_no_evaluation(tmp_path: Path, refusal: Callable[..., str]) -> None:
    dump, folder = tmp_path / "10.jsonl", tmp_path / "evaluation"
    dump.write_text('{"input": "q", "output": "", "gts": "1", "score": 0}\n')
    _add(folder, call("toy"), restart=False)
    before = (folder / "results.json").read_bytes()
    assert "has an evaluation, which this would overwrite" in refusal("--regrade", dump, "--output_dir", folder)
    assert (folder / "results.json").read_bytes() == before
    # nor one that was stopped before it had a result
    (tmp_path / "stopped/generations").mkdir(parents=True)
    assert "has an evaluation" in refusal("--regrade", dump, "--output_dir", tmp_path / "stopped")
    # a regrade's own result is replaced
    assert [main(["--regrade", str(dump), "--output_dir", str(tmp_path / "again")]) for _ in range(2)] == [0, 0]


def call(*tasks: str, **head: Any) -> dict[str, Any]:
    """What one call of the command has to write."""
    entry = {"questions": 1, "num_rows": 1, "samples": 1, "primary": None, "accuracy": {}}
    result = {"format": FORMAT, "name": "m", "method": None, "base_model": None, "model": {"fingerprint": "files 1"}}
    return result | head | {"tasks": {task: dict(entry) for task in tasks}}


def test_two_evaluations_of_a_model_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    # both began before either wrote: each holds its own tasks alone
    one, other = call("math500", method="base"), call("gsm8k")
    _add(tmp_path, one, restart=False)
    _add(tmp_path, other, restart=False)
    one["tasks"]["ifeval"] = call("ifeval")["tasks"]["ifeval"]
    _add(tmp_path, one, restart=False)
    found = read_result(tmp_path / "results.json")
    assert list(found["tasks"]) == ["math500", "gsm8k", "ifeval"]
    assert found["method"] == "base"  # the call that named none forgets nothing
    with pytest.raises(UserError, match="from another model"):
        _add(tmp_path, call("amc", model={"fingerprint": "files 2"}), restart=False)
    _add(tmp_path, call("amc", model={"fingerprint": "files 2"}), restart=True)
    assert list(read_result(tmp_path / "results.json")["tasks"]) == ["amc"]


def test_a_file_system_without_locks_stops_no_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_lock)
    _add(tmp_path, call("a"), restart=False)
    assert list(read_result(tmp_path / "results.json")["tasks"]) == ["a"]


def test_entries_that_are_written_at_once_wait_for_each_other(tmp_path: Path) -> None:
    tasks = ["a", "b", "c"]
    with ThreadPoolExecutor(3) as pool:  # the lock is of the open file, so threads are as good as processes
        list(pool.map(lambda task: _add(tmp_path, call(task), restart=False), tasks))
    assert sorted(read_result(tmp_path / "results.json")["tasks"]) == tasks


def test_a_table_is_a_set_of_questions(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text('problem,target\n"1 + 1, please?",2\n2 + 2?,\n')
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/q.csv").write_bytes((tmp_path / "q.csv").read_bytes())
    for path in (tmp_path / "q.csv", tmp_path / "folder"):
        found = read_questions("mine", path, samples=1)
        assert [(q.text, q.ground_truth) for q in found.questions] == [("1 + 1, please?", "2"), ("2 + 2?", None)]
        assert found.file_sha256 == file_sha256(tmp_path / "q.csv")
