# SPDX-License-Identifier: Apache-2.0
"""Faulty starts of runs, and unusual valid ones: checks their messages before Ray.

Every case goes through its run script (with `python` replaced by a program that records its arguments) and then through
the program up to Ray's start, in a process forked from one that has imported everything. The expected result of a case
is a refusal in one line with the expected text, a start, or a start with a warning.

    python benchmarks/faulty_starts.py [--toy FOLDER] [--only REGEX] [--verbose]
"""

import argparse
import importlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

REPO = Path(__file__).resolve().parents[1]
SCRIPTS = {
    "I": ("Co-rewarding-I/run_corewarding-I.sh", "co_rewarding_i.main"),
    "II": ("Co-rewarding-II/run_corewarding-II.sh", "co_rewarding_ii.main"),
    "III": ("Co-rewarding-II/run_corewarding-III.sh", "co_rewarding_ii.main"),
    "baseline": ("scripts/run_baseline.sh", "co_rewarding.training.main"),
}
TIMEOUT_S = 60
UGLY = (
    "ümlaut", "My Projects (2024)", "lr=1e-5", "a,b", "curly{x}", "dollar${HOME}", "square[1]", "hash#1", "it's",
    "tilde~x", 'quote"q', "back\\slash", "per%cent", "end\\",
)  # fmt: skip


@dataclass
class Case:
    """One start. `expected`: "refuse", "start" or "warn"; `says`: a regular expression that the line must match."""

    section: str
    name: str
    expected: str
    says: str = ""
    tree: str = "I"
    env: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    prepare: Callable[[Path], dict[str, str]] = lambda folder: {}  # makes files in a folder; more of `env`
    run_dir: str | None = None  # where it must be, below RUNS_DIR


def rows(path: Path) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(path).to_pylist()


def with_rows(toy: Path, variable: str, change: Callable[[int, dict[str, Any]], Any]) -> Callable[[Path], dict]:
    """A copy of the file that `variable` names, each row changed."""
    name = {"TRAIN_FILE": "train", "TRAIN_AUG_FILE": "train_rephrased", "VAL_FILE": "test"}[variable]

    def prepare(folder: Path) -> dict[str, str]:
        found = rows(toy / f"data/{name}.parquet")
        for i, row in enumerate(found):
            change(i, row)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found), folder / "changed.parquet")
        return {variable: str(folder / "changed.parquet")}

    return prepare


def ask(text: str) -> Callable[[int, dict[str, Any]], None]:
    def change(i: int, row: dict[str, Any]) -> None:
        row["prompt"][-1]["content"] = text

    return change


def cases(toy: Path) -> Iterator[Case]:
    data = toy / "data"
    train, rephrased = rows(data / "train.parquet"), rows(data / "train_rephrased.parquet")

    def no_system(share: float) -> Callable[[int, dict[str, Any]], None]:
        def change(i: int, row: dict[str, Any]) -> None:
            if i >= share * len(train):
                row["prompt"] = row["prompt"][-1:]

        return change

    def shifted(i: int, row: dict[str, Any]) -> None:
        row["prompt"][-1]["content"] = rephrased[(i + 1) % len(rephrased)]["prompt"][-1]["content"]

    def same(folder: Path) -> dict[str, str]:
        return {"TRAIN_AUG_FILE": str(data / "train.parquet")}

    def truth(value: Any) -> Callable[[int, dict[str, Any]], None]:
        return lambda i, row: row["reward_model"].update(ground_truth=value)

    def few_truths(i: int, row: dict[str, Any]) -> None:
        if i % 4:
            row["reward_model"]["ground_truth"] = ""

    def as_json(column: str) -> Callable[[int, dict[str, Any]], None]:
        return lambda i, row: row.update({column: json.dumps(row[column])})

    def index_list(i: int, row: dict[str, Any]) -> None:
        row["extra_info"]["index"] = [i]

    yield Case("labels", "no validation file", "start", env={"VAL_FILE": ""})
    for variable in ("TRAIN_FILE", "VAL_FILE"):
        yield Case("labels", f"{variable} without truths", "start", prepare=with_rows(toy, variable, truth("")))
        yield Case("labels", f"{variable} with truths null", "start", prepare=with_rows(toy, variable, truth(None)))
        yield Case(
            "labels",
            f"{variable}, a quarter of rows with truths",
            "start",
            prepare=with_rows(toy, variable, few_truths),
        )
    yield Case(
        "labels",
        "ground_truth without truths",
        "refuse",
        "ground_truth",
        "baseline",
        {"METHOD": "ground_truth"},
        prepare=with_rows(toy, "TRAIN_FILE", truth("")),
    )

    yield Case("another method", "the same file twice", "refuse", "wording|identical", prepare=same)
    yield Case("another method", "the same file twice, III", "refuse", "wording|identical", "III", prepare=same)
    yield Case(
        "another method",
        "rephrased shifted by a row",
        "refuse",
        "TRAIN_AUG_FILE|train_aug_files",
        prepare=with_rows(toy, "TRAIN_AUG_FILE", shifted),
    )
    for text in ("", " "):
        yield Case(
            "another method",
            f"rephrased all {text!r}",
            "refuse",
            "letter or digit",
            prepare=with_rows(toy, "TRAIN_AUG_FILE", ask(text)),
        )
        yield Case(
            "another method",
            f"questions all {text!r}",
            "refuse",
            "letter or digit",
            "II",
            prepare=with_rows(toy, "TRAIN_FILE", ask(text)),
        )
    yield Case(
        "another method",
        "no system prompt",
        "refuse",
        "boxed",
        "II",
        prepare=with_rows(toy, "TRAIN_FILE", no_system(0)),
    )
    yield Case(
        "another method",
        "a system prompt in the first half",
        "warn|refuse",
        "boxed",
        "II",
        prepare=with_rows(toy, "TRAIN_FILE", no_system(0.5)),
    )

    late = "fails late"
    yield Case(
        late, "prompts over the limit", "refuse", "max_prompt_length|MAX_PROMPT_LENGTH", env={"MAX_PROMPT_LENGTH": "4"}
    )
    yield Case(
        late,
        "most prompts over the limit",
        "refuse",
        "max_prompt_length|MAX_PROMPT_LENGTH",
        prepare=with_rows(toy, "TRAIN_FILE", lambda i, row: ask("1+1=" * 99)(i, row) if i % 64 else None),
    )
    for column in ("reward_model", "extra_info"):
        yield Case(
            late,
            f"{column} a JSON string",
            "refuse",
            column,
            "II",
            prepare=with_rows(toy, "TRAIN_FILE", as_json(column)),
        )
    yield Case(
        late,
        "reward_model null",
        "start",
        tree="II",
        prepare=with_rows(toy, "TRAIN_FILE", lambda i, row: row.update(reward_model=None)),
    )
    yield Case(late, "index a list", "refuse", "index", "II", prepare=with_rows(toy, "TRAIN_FILE", index_list))
    yield Case(
        late,
        "content an integer",
        "refuse",
        "prompt",
        "II",
        prepare=with_rows(toy, "TRAIN_FILE", lambda i, row: row.update(prompt=[{"role": "user", "content": 7}])),
    )
    for logger in ("[consol]", "[wandbb]", "file tensorboard"):
        yield Case(late, f"LOGGER={logger}", "refuse", "logger", env={"LOGGER": logger})
    yield Case(late, "trainer.logger=[consol]", "refuse", "logger", overrides=["trainer.logger=[consol]"])
    yield Case(late, "resume_mode=foo", "refuse", "resume_mode", overrides=["trainer.resume_mode=foo"])
    yield Case(
        late, "resume_path without a path", "refuse", "resume_from_path", overrides=["trainer.resume_mode=resume_path"]
    )
    yield Case(
        late,
        "resume_path of nothing",
        "refuse",
        "global_step_3",
        overrides=["trainer.resume_mode=resume_path", "trainer.resume_from_path=/nowhere/global_step_3"],
    )

    def model(change: Callable[[Path], None]) -> Callable[[Path], dict[str, str]]:
        def prepare(folder: Path) -> dict[str, str]:
            copy = folder / "model"
            shutil.copytree(toy / "model", copy)
            change(copy)
            return {"MODEL_PATH": str(copy)}

        return prepare

    def configured(**values: Any) -> Callable[[Path], None]:
        def change(copy: Path) -> None:
            file = copy / "config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | values))

        return change

    def weights(edit: Callable[[bytes], bytes | None]) -> Callable[[Path], None]:
        def change(copy: Path) -> None:
            file = copy / "model.safetensors"
            content = edit(file.read_bytes())
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)

        return change

    shape = json.loads((toy / "model/config.json").read_text())
    for name, change in (
        ("without weights", weights(lambda content: None)),
        ("truncated weights", weights(lambda content: content[: len(content) // 2])),
        ("empty weights", weights(lambda content: b"")),
        ("weights of noise", weights(lambda content: b"\xff" * 1000)),
        ("fewer words than its tokenizer", configured(vocab_size=shape["vocab_size"] - 40)),
        ("another hidden size", configured(hidden_size=2 * shape["hidden_size"])),
        ("more layers", configured(num_hidden_layers=shape["num_hidden_layers"] + 1)),
        ("a BERT", configured(model_type="bert", architectures=["BertForMaskedLM"])),
    ):
        yield Case(late, f"model {name}", "refuse", "MODEL_PATH|model.path", prepare=model(change))
    loop = "{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3

    def hanging(copy: Path) -> None:
        for file in copy.glob("*template*"):
            file.unlink()
        file = copy / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": loop}))

    yield Case(late, "a chat template that hangs", "refuse", "template", prepare=model(hanging))
    yield Case(late, "two machines without a cluster", "refuse", "nnodes|NUM_NODES", env={"NUM_NODES": "2"})
    for override, says in (
        ("actor_rollout_ref.rollout.name=sglang", "rollout.name"),
        ("actor_rollout_ref.rollout.max_model_len=10", "max_model_len"),
        ("actor_rollout_ref.rollout.gpu_memory_utilization=0", "gpu_memory_utilization"),
        ("trainer.default_local_dir=null", "default_local_dir"),
        ("actor_rollout_ref.model.lora_rank=8 actor_rollout_ref.model.lora_alpha=0", "lora_alpha"),
    ):
        yield Case(late, override, "refuse", says, overrides=override.split())
    yield Case(
        late,
        "WANDB_MODE=sometimes",
        "refuse",
        "WANDB_MODE",
        env={"WANDB_MODE": "sometimes", "LOGGER": "[console,wandb]"},
    )

    for name in UGLY:
        right = "refuse" if "${" in name else "start"  # the configuration's own way to refer to a value
        for variable, file in (("TRAIN_FILE", "train"), ("TRAIN_AUG_FILE", "train_rephrased"), ("VAL_FILE", "test")):

            def copied(folder: Path, name: str = name, variable: str = variable, file: str = file) -> dict[str, str]:
                (folder / name).mkdir()
                shutil.copy(data / f"{file}.parquet", folder / name / f"{name}.parquet")
                return {variable: str(folder / name / f"{name}.parquet")}

            yield Case("paths", f"{variable} in {name}", right, r"\$\{", prepare=copied)

        def renamed(folder: Path, name: str = name) -> dict[str, str]:
            shutil.copytree(toy / "model", folder / name)
            return {"MODEL_PATH": str(folder / name)}

        yield Case("paths", f"MODEL_PATH {name}", right, r"\$\{", prepare=renamed)
        run_dir = f"co-rewarding/{name}"
        yield Case("paths", f"RUN_NAME {name}", right, r"\$\{", env={"RUN_NAME": name}, run_dir=run_dir)

    for name in ("2024_11_26", "1e5", "12.50", "null", "true", "0x1F", "1:30"):
        yield Case("names", f"RUN_NAME={name}", "start", env={"RUN_NAME": name}, run_dir=f"co-rewarding/{name}")
    for name in ("../../up", "/tmp/absolute", "..", ".", "a/../..", "x" * 300, "two\nlines"):
        yield Case("names", f"RUN_NAME={name[:20]!r}", "refuse", "RUN_NAME|experiment_name", env={"RUN_NAME": name})

    def in_its_place(folder: Path) -> dict[str, str]:
        (folder / "runs").write_text("a file")
        return {"RUNS_DIR": str(folder / "runs")}

    yield Case("run directory", "a file in its place", "refuse", "RUNS_DIR", prepare=in_its_place)
    for place in ("/proc", "/sys"):
        yield Case("run directory", place, "refuse", "RUNS_DIR|cannot be written", env={"RUNS_DIR": place})
    yield Case("run directory", "RUNS_DIR empty", "start", env={"RUNS_DIR": ""})

    def pointed(text: str, *folders: str) -> Callable[[Path], dict[str, str]]:
        def prepare(folder: Path) -> dict[str, str]:
            place = folder / "runs/co-rewarding/pointed/checkpoints"
            for name in folders:
                (place / name / "actor").mkdir(parents=True)
            place.mkdir(parents=True, exist_ok=True)
            (place / "latest_checkpointed_iteration.txt").write_text(text)
            return {"RUNS_DIR": str(folder / "runs"), "RUN_NAME": "pointed"}

        return prepare

    for text in ("", "abc", "3.0", "99", "3\n"):
        yield Case(
            "pointer",
            f"{text!r}, one checkpoint without files",
            "refuse",
            "global_step_3|latest_checkpointed",
            prepare=pointed(text, "global_step_3"),
        )

    for override in (
        "trainer.total_epoch=1",
        "data.train_batchsize=8",
        "actor_rollout_ref.rollout.temprature=1",
        "co_rewarding.methd=x",
    ):
        key = override.partition("=")[0]
        yield Case("keys", override, "refuse", "total_epochs|train_batch_size|temperature|method", overrides=[override])
        yield Case("keys", f"+{override}", "refuse", re.escape(key.rpartition(".")[2]), overrides=[f"+{override}"])
    yield Case(
        "keys",
        "+engine_kwargs.vllm.seed=1",
        "start",
        overrides=["+actor_rollout_ref.rollout.engine_kwargs.vllm.seed=1"],
    )
    yield Case(
        "keys",
        "+override_config.rope_theta",
        "start",
        overrides=["+actor_rollout_ref.model.override_config.rope_theta=10000"],
    )
    yield Case("keys", "co_rewarding=null", "refuse", "co_rewarding", overrides=["co_rewarding=null"])
    yield Case(
        "keys", "a bracket that is not closed", "refuse", "trainer.logger", overrides=["trainer.logger=[console"]
    )

    for override, says in (
        ("trainer.total_training_steps=abc", "total_training_steps"),
        ("trainer.total_training_steps=0", "total_training_steps"),
        ("trainer.total_training_steps=-3", "total_training_steps"),
        ("trainer.total_training_steps=999999", "total_training_steps"),
        ("trainer.max_actor_ckpt_to_keep=0", "max_actor_ckpt_to_keep"),
        ("trainer.max_actor_ckpt_to_keep=-1", "max_actor_ckpt_to_keep"),
        ("trainer.max_actor_ckpt_to_keep=abc", "max_actor_ckpt_to_keep"),
        ("trainer.val_before_train=maybe", "val_before_train"),
        ("co_rewarding.verify_workers=100000", "verify_workers"),
        ("data.train_batch_size=9999999", "train_batch_size"),
    ):
        yield Case("values", override, "refuse", says, overrides=[override])
    for variable, key in (
        ("LEARNING_RATE", "optim.lr"), ("NUM_ROLLOUTS", "rollout.n"), ("TRAIN_BATCH_SIZE", "train_batch_size"),
        ("KL_LOSS_COEF", "kl_loss_coef"), ("TOTAL_EPOCHS", "total_epochs"), ("TRAIN_TEMPERATURE", "temperature"),
        ("MAX_RESPONSE_LENGTH", "max_response_length"), ("MIN_AGREEMENT", "min_agreement"), ("SAVE_FREQ", "save_freq"),
        ("GPUS_PER_NODE", "n_gpus_per_node"), ("CLIP_RATIO", "clip_ratio"), ("LR_WARMUP_RATIO", "lr_warmup_steps"),
        ("PAYOUT", "payout"), ("MAX_LABEL_FLIPS", "max_label_flips"),
    ):  # fmt: skip
        for value in ("many", "ü(", "-5", "nan", "inf", "1e9", "1,5", "[1]", "null"):
            if (variable, value) in {
                ("LEARNING_RATE", "1e9"),
                ("KL_LOSS_COEF", "1e9"),
                ("CLIP_RATIO", "1e9"),
                ("SAVE_FREQ", "-5"),
            }:
                continue
            yield Case("values", f"{variable}={value}", "refuse", f"{key}|{variable}", env={variable: value})
    yield Case("values", "eight alike validation responses", "refuse", "VAL_", env={"VAL_NUM_ROLLOUTS": "8"})
    yield Case(
        "values",
        "a method of two wordings as a baseline",
        "refuse",
        "run script|run_corewarding",
        "baseline",
        {"METHOD": "co_rewarding_I"},
    )
    yield Case("values", "a method that is none", "refuse", "method", "baseline", {"METHOD": "majority"})
    yield Case("variables", "LEARNING_RAT=1e-6", "warn", "LEARNING_RATE", env={"LEARNING_RAT": "1e-6"})
    yield Case("variables", "NUM_ROLLOUT=4", "warn", "NUM_ROLLOUTS", env={"NUM_ROLLOUT": "4"})
    yield Case("variables", "RAY_ADDRESS of a cluster", "start", env={"RAY_ADDRESS": "10.0.0.1:6379"})
    yield Case("variables", "RAY_ADDRESS empty", "refuse", "RAY_ADDRESS", env={"RAY_ADDRESS": ""})


def settings(toy: Path, folder: Path) -> dict[str, str]:
    return {
        "PLATFORM": "cpu",
        "MODEL_PATH": str(toy / "model"),
        "TRAIN_FILE": str(toy / "data/train.parquet"),
        "TRAIN_AUG_FILE": str(toy / "data/train_rephrased.parquet"),
        "VAL_FILE": str(toy / "data/test.parquet"),
        "RUNS_DIR": str(folder / "runs"),
        "TRAIN_BATCH_SIZE": "16",
        "NUM_ROLLOUTS": "4",
        "MAX_PROMPT_LENGTH": "64",
        "MAX_RESPONSE_LENGTH": "32",
        "GPUS_PER_NODE": "1",
        "LOGGER": "[console,file,tensorboard]",
    }


def told_arguments(case: Case, environment: dict[str, str], folder: Path) -> tuple[int, str, Any]:
    """The run script's exit code, its output, and (arguments, environment) of its `python` if reached."""
    stub = folder / "bin/python"
    stub.parent.mkdir()
    stub.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"if sys.argv[1:2] != ['-m']: os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])\n"
        f"json.dump([sys.argv[3:], dict(os.environ)], open({str(folder / 'told.json')!r}, 'w'))\n"
    )
    stub.chmod(0o755)
    environment = environment | {"PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}"}
    script = REPO / SCRIPTS[case.tree][0]
    ran = subprocess.run(
        ["bash", script, *case.overrides],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    told = folder / "told.json"
    return ran.returncode, ran.stdout + ran.stderr, json.loads(told.read_text()) if told.exists() else None


def start(case: Case, arguments: list[str], environment: dict[str, str], folder: Path) -> tuple[int, str]:
    """The program up to Ray in a child of this process: its exit code (99: Ray would have started), and its output."""
    log = folder / "log.txt"
    child = os.fork()
    if child == 0:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [SCRIPTS[case.tree][1], *arguments]
        code = 98
        try:
            from verl.trainer import main_ppo

            def instead(config: Any, task_runner_class: Any) -> None:
                raise SystemExit(99)

            main_ppo.run_ppo = instead
            runpy.run_module(SCRIPTS[case.tree][1], run_name="__main__", alter_sys=True)
            code = 97  # neither refused nor started
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124, log.read_text(errors="replace")


def judged(case: Case, code: int, output: str, runs: Path) -> tuple[str, str]:
    """The result ("refuse", "start", "warn" or "wrong"), and the reason."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\S+: )?(error|Error):? ", line)]
    warnings = [line for line in lines if re.match(r"(\S+: |\[co-rewarding\] )?WARNING", line)]
    if "Traceback (most recent call last)" in output:
        return "wrong", "traceback: " + lines[-1][:160]
    if code == 124:
        return "wrong", "hangs"
    if code == 99:
        if case.run_dir is not None and not (runs / case.run_dir / "hydra").is_dir():
            there = [str(path.parent.relative_to(runs)) for path in runs.glob("**/hydra")]
            return "wrong", f"another directory: {there}"
        found = next((line for line in warnings if re.search(case.says, line)), "") if case.says else ""
        return ("warn", found) if found else ("start", "")
    if code == 2 and len(errors) == 1:
        return "refuse", errors[0]
    return "wrong", f"exit {code}: {lines[-1][:160] if lines else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose section and name match this regular expression")
    parser.add_argument("--toy", type=Path, help="folder with data/ and model/ of the toy task; else they are made")
    parser.add_argument("--verbose", action="store_true", help="print the message of every case")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    toy = options.toy or work / "toy"
    if not options.toy:
        for script, *more in (
            ("make_data.py", "--local_dir", toy / "data", "--num_train", "256", "--num_test", "32"),
            ("make_model.py", "--data_dir", toy / "data", "--output_dir", toy / "model"),
        ):
            subprocess.run([sys.executable, REPO / "scripts/toy" / script, *map(str, more)], check=True)
    for module in ("verl.trainer.main_ppo", "transformers", "co_rewarding.training.launch"):
        importlib.import_module(module)
    importlib.import_module("torch")
    counts: dict[str, Counter] = {}
    for number, case in enumerate(cases(toy)):
        if not re.search(options.only, f"{case.section} {case.name}"):
            continue
        folder = work / str(number)
        folder.mkdir()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "WANDB_"))}
        environment = inherited | settings(toy, folder) | case.env | case.prepare(folder)
        if environment.get("RUNS_DIR") == "" and case.expected == "start":
            environment["RUNS_DIR"] = ""
        code, output, told = told_arguments(case, environment, folder)
        if told is not None:
            code, more = start(case, told[0], told[1] | {"PATH": os.environ["PATH"]}, folder)
            output += more
        happened, why = judged(case, code, output, Path(environment["RUNS_DIR"] or folder))
        says_it = happened in ("start", "wrong") or not case.says or re.search(case.says, why)
        right = happened in case.expected.split("|") and bool(says_it)
        count = counts.setdefault(case.section, Counter())
        count["tried"] += 1
        count[happened if right else "still wrong"] += 1
        if options.verbose or not right:
            print(f"{'right' if right else 'WRONG'} [{case.section}] {case.name}: {happened} {why[:300]}", flush=True)
        if right:
            shutil.rmtree(folder, ignore_errors=True)
    columns = ("tried", "refuse", "start", "warn", "still wrong")
    total: Counter = sum(counts.values(), Counter())
    print(f"\n| section | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for section, count in [*counts.items(), ("all", total)]:
        print(f"| {section} | {' | '.join(str(count[column]) for column in columns)} |")


if __name__ == "__main__":
    main()
