# SPDX-License-Identifier: Apache-2.0
"""Recipes for machines: composed, through the checks that need neither model nor data, and the estimate says that they
fit. None of it was run on a GPU.

The scripts run with a `python` (and `ray`, `srun`, `scontrol`) in front of the real ones that only tell what they got.
"""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from co_rewarding.tools.export.run_config import differences, method_of
from co_rewarding.training.estimate import CARDS, GIB, Setting
from co_rewarding.training.fitting import Problem, problems, propose
from co_rewarding.training.model_shape import ModelShape
from co_rewarding.training.preflight import batches, keys, numbers
from co_rewarding.training.preflight.memory import setting_of
from co_rewarding_ii.preflight import check_teacher

REPO = Path(__file__).resolve().parents[1]
TREES = {
    "I": ("co_rewarding_i.config", "co_rewarding_i"),
    "II": ("co_rewarding_ii.config", "co_rewarding_ii"),
    "III": ("co_rewarding_ii.config", "co_rewarding_ii"),
}
RECIPES = REPO / "recipes/models"
MODELS = {file.stem: json.loads(file.read_text()) for file in sorted(RECIPES.glob("*.json"))}
# through the scripts: each model, method, size and number at least once; of the others only the sizes, below
SOME = [
    ("I", "qwen3-1.7b-base", "1x24gb"), ("II", "qwen3-1.7b-base", "2x24gb"), ("II", "qwen2.5-3b", "1x40gb"),
    ("I", "qwen2.5-3b", "2x48gb"), ("II", "llama3.2-3b-instruct", "4x24gb"), ("I", "llama3.2-3b-instruct", "1x80gb"),
    ("I", "qwen3-4b-base", "4x80gb"), ("II", "qwen3-4b-base", "8x24gb"), ("II", "qwen2.5-7b", "1x80gb"),
    ("I", "qwen2.5-7b", "4x48gb"), ("I", "qwen3-8b-base", "8x80gb"), ("II", "qwen3-8b-base", "2x80gb"),
    ("III", "qwen3-8b-base", "4x80gb"), ("III", "qwen3-8b-base", "1x141gb"), ("II", "qwen3-8b-base", "2x141gb"),
]  # fmt: skip
ESTIMATES = f'[[ $1 != */scripts/estimate.py ]] || exec {sys.executable} "$@"'  # the one that a recipe asks for sizes
SETTABLE = re.compile(r"^([A-Z0-9_]+)=\$\{\1:?-", flags=re.MULTILINE)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `python` that prints its arguments, each ended by a NUL; scripts/estimate.py it runs."""
    folder = tmp_path_factory.mktemp("bin")
    write_tool(folder, "python", f"{ESTIMATES}; printf '%s\\0' \"$@\"")
    return folder


def write_tool(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    (folder / name).chmod(0o755)


def environment(tools: Path, **given: str) -> dict[str, str]:
    texts = [path.read_text() for path in (*REPO.glob("Co-rewarding-*/run_*.sh"), *REPO.glob("recipes/**/*.sh"))]
    settable = {name for text in texts for name in SETTABLE.findall(text)} | {"LORA_RANK", "OFFLOAD"}
    clean = {name: value for name, value in os.environ.items() if name not in settable}
    return {**clean, "VIRTUAL_ENV": str(tools), "PATH": f"{tools}:{os.environ['PATH']}", **given}


def train(tools: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(REPO / "recipes/train.sh"), *arguments],
        env=environment(tools, **given), capture_output=True, text=True, timeout=20,
    )  # fmt: skip


def overrides_of(done: subprocess.CompletedProcess) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    flag, module, *overrides = done.stdout.split("\0")[:-1]
    assert flag == "-m" and module.endswith(".main")
    return overrides


@cache
def composed(tree: str) -> bytes:
    module, name = TREES[tree]
    with initialize_config_module(module, version_base=None):
        return pickle.dumps(compose(name))


def configured(tree: str, overrides: list[str]) -> DictConfig:
    """The configuration with the overrides in it, as Hydra reads them; composing each anew takes ten times as long."""
    config = pickle.loads(composed(tree))
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key == "platform":
            assert override.value() == "gpu"
            continue
        block, _, name = key.rpartition(".")
        parent = OmegaConf.select(config, block) if block else config
        assert override.is_add() or name in list(parent), f"{key} is not a key of the configuration"
        with open_dict(config):
            OmegaConf.update(config, key, override.value())
    return config


def check(config: DictConfig, tree: str) -> None:
    """The checks of a start that need neither model, nor data, nor a GPU."""
    for one in (
        keys.check_settings,
        keys.check_legacy_keys,
        keys.check_missing,
        keys.check_fixed_choices,
        numbers.check_numbers,
        numbers.check_group_size,
        batches.check_batch_sizes,
        *([check_teacher] if tree != "I" else []),
    ):
        one(config)


def judged(config: DictConfig, model: str, machine: str) -> list[Problem]:
    """What the product's estimate has to say of a recipe's configuration."""
    shape = ModelShape.from_config(MODELS[model])
    return problems(shape, setting_of(config, CARDS[int(re.search(r"x(\d+)gb", machine)[1])] * GIB))


@pytest.mark.parametrize(("tree", "model", "machine"), SOME, ids=lambda name: name)
def test_a_recipe_passes_the_checks_and_should_fit(tools: Path, tree: str, model: str, machine: str) -> None:
    config = configured(tree, overrides_of(train(tools, tree, model, machine)))
    check(config, tree)
    assert config.actor_rollout_ref.model.path == MODELS[model]["_name_or_path"]
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (1, int(machine[0]))
    name, data = Path(MODELS[model]["_name_or_path"]).name, "dapo" if tree == "III" else "math"
    assert config.trainer.experiment_name == f"co_rewarding_{tree}-{name}-{data}"
    assert not [problem for problem in judged(config, model, machine) if problem.is_refused]
    # nothing of the method is changed
    assert differences(config, method_of(config)) == []


@pytest.mark.parametrize(
    ("tree", "model", "machine"),
    [
        ("I", "qwen3-4b-base", "1x24gb"),
        ("I", "qwen2.5-7b", "1x40gb"),
        ("II", "qwen2.5-3b", "1x24gb"),
        ("III", "qwen2.5-3b", "1x16gb"),
    ],
)
def test_lora_for_one_gpu(tools: Path, tree: str, model: str, machine: str) -> None:
    overrides = overrides_of(train(tools, tree, model, machine, LORA_RANK="32"))
    config = configured(tree, overrides)
    check(config, tree)
    if tree != "I":  # verl's own reference with an adapter
        assert config.actor_rollout_ref.teacher.kl_anchor == "start"
    assert (config.actor_rollout_ref.model.lora_rank, config.actor_rollout_ref.model.lora_alpha) == (32, 32)
    assert config.actor_rollout_ref.rollout.load_format == "safetensors"  # vLLM needs the base model itself
    assert config.actor_rollout_ref.actor.optim.lr == 3e-5
    assert judged(config, model, machine) == []


def test_a_recipe_that_is_tight_is_left_to_the_start(tools: Path) -> None:
    config = configured("II", overrides_of(train(tools, "II", "qwen3-4b-base", "1x24gb")))
    (tight, *_) = judged(config, "qwen3-4b-base", "1x24gb")
    assert not tight.is_refused


def test_which_machines_a_model_has_sizes_for() -> None:
    unfit = set()
    for name, config in MODELS.items():
        for size in (24, 40, 48, 80, 141):
            for gpus in (1, 2, 4, 8):
                for is_teacher in (False, True):
                    setting = Setting(gpus=gpus, card=CARDS[size] * GIB, is_teacher=is_teacher)
                    if propose(ModelShape.from_config(config), setting) is None:
                        unfit.add(f"{name} {gpus}x{size}gb")
    # gradients of all weights, or a GPU's part of weights and moments, are more than such a card has
    seven = {f"qwen2.5-7b {gpus}x24gb" for gpus in (1, 2, 4)}
    assert unfit == seven | {f"qwen3-8b-base {gpus}x24gb" for gpus in (1, 2, 4, 8)} | {"qwen3-8b-base 1x40gb"}


def test_a_machine_that_makes_no_sense_is_refused(tools: Path) -> None:
    done = train(tools, "I", "qwen3-8b-base", "1x40gb")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: qwen3-8b-base on 1x40: in the update a GPU needs ")
    assert done.stderr.endswith("use LoRA (LORA_RANK=32), a smaller model, or more or larger GPUs\n")
    assert len(done.stderr.splitlines()) == 1


def test_gradients_stay_on_the_card_where_all_else_is_offloaded(tools: Path) -> None:
    config = configured("II", overrides_of(train(tools, "II", "qwen3-8b-base", "1x80gb")))
    fsdp = config.actor_rollout_ref.actor.fsdp_config
    assert (fsdp.offload_policy, fsdp.use_no_sync_for_gradient_accumulation) == (True, True)
    assert (fsdp.param_offload, fsdp.optimizer_offload) == (False, False)


def test_hydra_composes_what_a_recipe_says(tools: Path) -> None:
    # the one with a key that is added, and with LoRA; the others are told apart by values alone
    overrides = overrides_of(train(tools, "I", "llama3.2-3b-instruct", "1x24gb", LORA_RANK="8"))
    module, name = TREES["I"]
    with initialize_config_module(module, version_base=None):
        config = compose(name, overrides=overrides)
    assert config.data.apply_chat_template_kwargs.date_string == "26 Jul 2024"
    assert config == configured("I", overrides)


def test_variables_and_arguments_win(tools: Path) -> None:
    overrides = overrides_of(
        train(
            tools, "II", "qwen3-8b-base", "4x80gb", "trainer.total_epochs=1",
            MAX_TOKENS_PER_GPU="16384", MODEL_PATH="/m", OFFLOAD="step", NUM_NODES="2",
        )
    )  # fmt: skip
    config = configured("II", overrides)
    assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu == 16384
    assert config.actor_rollout_ref.model.path == "/m"
    assert config.actor_rollout_ref.actor.fsdp_config.param_offload is True
    assert (config.trainer.nnodes, config.trainer.total_epochs) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("I", "qwen3-4b-base"), "usage: train.sh METHOD MODEL MACHINE"),
        (("IV", "qwen3-4b-base", "4x80gb"), "METHOD=IV: must be I, II or III"),
        (("I", "qwen", "4x80gb"), "MODEL=qwen: there is no recipe of that name; there are llama3.2"),
        (("I", "qwen3-4b-base", "9x80gb"), "MACHINE=9x80gb: must be 1x to 8x of 12gb, 16gb, 24gb, "
         "40gb, 48gb, 80gb or 141gb"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_reported(tools: Path, arguments: tuple[str, ...], message: str) -> None:
    done = train(tools, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {message}" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"OFFLOAD": "most"}, "OFFLOAD=most: must be 'none', 'step' or 'all'"),
        ({"LORA_RANK": "-1"}, "LORA_RANK=-1: must be greater than or equal to 0"),
        ({"NUM_NODES": "two"}, "NUM_NODES=two: must be a valid integer"),
        ({"GPUS_PER_NODE": "0"}, "GPUS_PER_NODE=0: must be a whole number from 1"),
        ({"MAX_PROMPT_LENGTH": "1.5"}, "MAX_PROMPT_LENGTH=1.5: must be a valid integer"),
        ({"MAX_RESPONSE_LENGTH": "0"}, "MAX_RESPONSE_LENGTH=0: must be greater than or equal to 1"),
        ({"MAX_TOKENS_PER_GPU": "2048"}, "MAX_TOKENS_PER_GPU=2048: must hold a sequence of 3584 tokens"),
        ({"ROLLOUT_MEMORY_UTILIZATION": "60"}, "ROLLOUT_MEMORY_UTILIZATION=60: must be less than 1"),
        (
            {"ROLLOUT_TENSOR_PARALLEL": "8", "NUM_NODES": "2"},  # 8 GPUs, but of two machines
            "ROLLOUT_TENSOR_PARALLEL=8: must divide the 4 GPUs of a machine and the model's 32 heads, and split or "
            "repeat its 8 heads of keys evenly",
        ),
    ],
)
def test_a_variable_that_is_wrong_is_named(tools: Path, given: dict[str, str], message: str) -> None:
    done = train(tools, "I", "qwen3-4b-base", "4x80gb", **given)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_recipes_help(tools: Path, word: str) -> None:
    done = train(tools, word)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Train one of the paper's base models ") and "set -e" not in done.stdout
    assert done.stdout.endswith("Further arguments are configuration overrides.\n")


# --- the cluster ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path, tools: Path) -> Callable[..., subprocess.CompletedProcess]:
    """recipes/cluster/slurm.sh with stand-ins; `calls` gets a line for each `ray` and each training."""
    folder = tmp_path / "tools"
    folder.mkdir()
    write_tool(
        folder,
        "scontrol",
        f'[[ $1 == requeue ]] && echo "$*" >> {tmp_path}/queued || printf "node1\\nnode2\\nnode3\\n"',
    )
    strip = "while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && export ON=${1#*=}; shift; done"
    write_tool(folder, "srun", f'{strip}; exec "$@"')
    write_tool(folder, "hostname", "echo 127.0.0.7 10.0.0.1")
    told = f'echo "$ON ray $* token ${{#RAY_AUTH_TOKEN}}" >> {tmp_path}/calls'
    write_tool(folder, "ray", f"{told}; [[ $* != *--head* ]] || exec {folder}/listen")
    # a head that can be reached, and stays until it is ended
    server = "import socket, time; s = socket.create_server(('127.0.0.7', 24711)); time.sleep(60)"
    write_tool(folder, "listen", f'echo $$ >> {tmp_path}/pids; exec python3 -c "{server}"')
    write_tool(
        folder,
        "python",
        f'{ESTIMATES}; if [[ $1 == - ]]; then cat > /dev/null; grep -c "ray start" {tmp_path}/calls; '
        f'else echo "trains in $RUNS_DIR $RAY_ADDRESS $*" >> {tmp_path}/calls; eval "${{TRAINING:-}}"; fi',
    )

    def run(*arguments: str, time_is_up: bool = False, **given: str) -> subprocess.CompletedProcess:
        job = {"SLURM_SUBMIT_DIR": str(REPO), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node[1-3]"}
        started = subprocess.Popen(
            ["bash", str(REPO / "recipes/cluster/slurm.sh"), *arguments],
            env={**environment(folder), "RUNS_DIR": str(tmp_path / "runs"), **job, **given}, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if time_is_up:
            while not (tmp_path / "trains").exists():
                assert started.poll() is None
                time.sleep(0.05)
            started.send_signal(signal.SIGUSR1)
        out, err = started.communicate(timeout=30)
        return subprocess.CompletedProcess(started.args, started.returncode, out, err)

    return run


def test_a_slurm_job_starts_a_node_on_each_machine_and_trains_on_all(
    cluster: Callable[..., subprocess.CompletedProcess], tmp_path: Path
) -> None:
    done = cluster("II", "qwen3-8b-base", "4x80gb", "trainer.total_epochs=1")
    assert done.returncode == 0, done.stderr
    *nodes, training = sorted((tmp_path / "calls").read_text().splitlines())
    token = "token 64"  # 32 random bytes, the job's own
    start = "ray start --block --disable-usage-stats --num-gpus=4"
    assert nodes == [
        f"node1 {start} --node-ip-address=127.0.0.7 --head --port=24711 --include-dashboard=false {token}",
        f"node2 {start} --address=127.0.0.7:24711 {token}",
        f"node3 {start} --address=127.0.0.7:24711 {token}",
    ]
    runs = tmp_path / "runs"  # a full path: the process that trains may run on any machine
    assert training.startswith(f"trains in {runs} 127.0.0.7:24711 -m co_rewarding_ii.main ")
    assert " trainer.nnodes=3 " in training and " trainer.n_gpus_per_node=4 " in training
    assert not list(runs.iterdir())
    # the nodes were ended with the job
    for pid in (tmp_path / "pids").read_text().split():
        assert not Path(f"/proc/{pid}").exists()


def test_a_slurm_job_of_one_gpu_a_machine(cluster: Callable[..., subprocess.CompletedProcess], tmp_path: Path) -> None:
    done = cluster("I", "qwen3-4b-base", "1x80gb", SLURM_GPUS_ON_NODE="1")
    assert done.returncode == 0, done.stderr
    *nodes, training = sorted((tmp_path / "calls").read_text().splitlines())
    assert len(nodes) == 3 and all(" --num-gpus=1 " in node for node in nodes)
    assert " trainer.nnodes=3 " in training and " trainer.n_gpus_per_node=1 " in training
    (tmp_path / "calls").unlink()
    done = cluster("I", "qwen3-4b-base", "4x80gb", SLURM_GPUS_ON_NODE="1")  # sbatch was told something else
    assert (done.returncode, done.stderr) == (
        2, "error: GPUS_PER_NODE=4, the job has 1: sbatch --gpus-per-node=4\n"
    )  # fmt: skip
    assert not (tmp_path / "calls").exists()  # no node was started


RUN = "mkdir -p {0}/checkpoints; echo process {1} on node1 > {0}/run.lock; "
SAVES = RUN.format("$RUNS_DIR/p/n", "$$") + "touch $RUNS_DIR/p/n/checkpoints/latest_checkpointed_iteration.txt"
OTHERS = SAVES.replace("$$", "1")  # another job's run saves under the same folder
LINKED = f"rm -rf $RUNS_DIR/p; mkdir -p $RUNS_DIR/../disk; ln -s ../disk $RUNS_DIR/p; {SAVES}"  # to a larger disk
# begins, saves or not, and ends when it is told to; then what it says is its exit code
WAITS = "trap 'exit {code}' TERM; sleep 0.1; {saves}; touch {folder}/trains; while true; do sleep 0.1; done"


@pytest.mark.parametrize(
    ("saves", "code", "given", "queued", "message"),
    [
        (SAVES, 143, {}, True, "is queued again, to resume from its last checkpoint"),
        (SAVES, 1, {"SLURM_RESTART_COUNT": "49"}, True, "is queued again"),
        (SAVES, 0, {}, False, ""),  # it was done when the signal came
        (LINKED, 143, {}, True, "is queued again, to resume from its last checkpoint"),
        (OTHERS, 143, {}, False, "no checkpoint was saved since this job began; set SAVE_FREQ lower"),
        (RUN.format("$RUNS_DIR/p/n", "$$") + ":", 143, {}, False, "no checkpoint was saved since this job began"),
        (SAVES, 143, {"SLURM_RESTART_COUNT": "50"}, False, "it was 50 times (MAX_REQUEUES)"),
    ],
)
def test_a_slurm_job_is_queued_again_before_its_time_limit(
    saves: str, code: int, given: dict[str, str], queued: bool, message: str,
    cluster: Callable[..., subprocess.CompletedProcess], tmp_path: Path,
) -> None:  # fmt: skip
    old = tmp_path / "runs/other/run/checkpoints/latest_checkpointed_iteration.txt"  # another run's, of yesterday
    old.parent.mkdir(parents=True)
    old.touch()
    os.utime(old, (0, 0))
    training = WAITS.format(code=code, saves=saves, folder=tmp_path)
    done = cluster("I", "qwen3-4b-base", "1x80gb", time_is_up=True, TRAINING=training, **given)
    assert (tmp_path / "queued").exists() == queued
    assert done.returncode == (0 if queued or code == 0 else 1)
    assert message in done.stdout + done.stderr
    if queued:
        assert (tmp_path / "queued").read_text() == "requeue 4711\n"


def test_a_slurm_job_that_does_not_stop_is_killed_and_queued_again(
    cluster: Callable[..., subprocess.CompletedProcess], tmp_path: Path
) -> None:
    training = WAITS.replace("exit {code}", ":").format(saves=SAVES, folder=tmp_path)
    done = cluster("I", "qwen3-4b-base", "1x80gb", time_is_up=True, TRAINING=training, STOP_SECONDS="1")
    assert (done.returncode, (tmp_path / "queued").read_text()) == (0, "requeue 4711\n")


def test_a_slurm_job_whose_run_fails_is_not_queued_again(
    cluster: Callable[..., subprocess.CompletedProcess], tmp_path: Path
) -> None:
    done = cluster("I", "qwen3-4b-base", "1x80gb", TRAINING=f"{SAVES}; exit 7")
    assert done.returncode == 7
    assert not (tmp_path / "queued").exists()


def test_slurm_signals_the_script_and_may_queue_it_again() -> None:
    text = (REPO / "recipes/cluster/slurm.sh").read_text()
    options = re.findall(r"^#SBATCH (--\S+)$", text, flags=re.MULTILINE)
    assert {"--signal=B:USR1@600", "--requeue", "--open-mode=append"} <= set(options)


@pytest.mark.parametrize(("given", "gpus"), [({}, ""), ({"GPUS_PER_NODE": "2"}, " --num-gpus=2")])
def test_a_node_by_hand_has_the_gpus_that_ray_finds(tmp_path: Path, given: dict[str, str], gpus: str) -> None:
    write_tool(tmp_path, "ray", 'echo "$*"')
    done = subprocess.run(
        ["bash", str(REPO / "recipes/cluster/ray_node.sh"), "head"],
        env=environment(tmp_path, **given), capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.stdout == f"start --block --disable-usage-stats{gpus} --head --port=6379 --include-dashboard=false\n"


def test_a_node_says_what_it_needs(tools: Path) -> None:
    for arguments, message in (
        ((), "usage: ray_node.sh head | worker HEAD_IP | wait HEAD_IP N"),
        (("worker",), "usage: ray_node.sh worker HEAD_IP"),
        (("wait", "127.0.0.7"), "usage: ray_node.sh wait HEAD_IP N"),
        (("worker", "127.0.0.8"), "no Ray head at 127.0.0.8:6379 after 0 s"),
    ):
        done = subprocess.run(
            ["bash", str(REPO / "recipes/cluster/ray_node.sh"), *arguments],
            env=environment(tools, WAIT_SECONDS="0"), capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (2, f"error: {message}\n")


def test_every_recipe_says_that_it_was_not_run_on_a_gpu() -> None:
    for path in (*(REPO / "recipes").rglob("*.sh"), REPO / "docs/CLUSTER.md"):
        assert re.search(r"not\s+run\s+on", re.sub(r"\n# ?", " ", path.read_text()), flags=re.IGNORECASE), path


def test_the_lent_config_is_not_changed(tools: Path) -> None:
    first: Any = configured("I", ["trainer.nnodes=7"])
    assert (first.trainer.nnodes, configured("I", []).trainer.nnodes) == (7, 1)
