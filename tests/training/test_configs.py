# SPDX-License-Identifier: Apache-2.0
"""Every YAML composes, and every run script passes keys that exist, with the paper's values.

A run script is executed by bash with a `python` in front of the real one that only writes down its arguments; what it
wrote is composed by Hydra. Deviations from Table 5 are listed where they are made: greedy validation (temperature 0).
"""

import functools
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from co_rewarding.algo.methods import METHODS, Method, consensus_of
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.training.settings import Settings
from co_rewarding_i.reward_manager import CrossViewRewardManager
from co_rewarding_ii.settings import TeacherSettings

REPO = Path(__file__).resolve().parents[2]
SCRIPTS = [*sorted(REPO.glob("Co-rewarding-*/run_*.sh")), REPO / "scripts/run_baseline.sh"]
BASELINE_YAML = REPO / "co_rewarding/training/config/baseline.yaml"
TREE_YAMLS = [*sorted(REPO.glob("Co-rewarding-*/*/config/*.yaml")), BASELINE_YAML]
SHARED_YAML = REPO / "co_rewarding/training/config/group_reward.yaml"
PLATFORM_YAMLS = sorted(REPO.glob("co_rewarding/training/config/platform/*.yaml"))
ROUTER_YAMLS = [REPO / "co_rewarding/training/config/router.yaml", REPO / "Co-rewarding-II/co_rewarding_ii/router.yaml"]
PLATFORMS = [path.stem for path in PLATFORM_YAMLS]

# Paper (arXiv 2508.00410), Table 5, by the name that verl 0.9.1 gives each setting
TABLE_5 = {
    "data.train_batch_size": 128,
    "data.max_prompt_length": 512,
    "data.max_response_length": 3072,
    "actor_rollout_ref.actor.optim.lr": 3e-6,
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "cosine",
    "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio": 0.1,
    "actor_rollout_ref.actor.optim.optimizer": "AdamW",
    "actor_rollout_ref.actor.optim.betas": [0.9, 0.999],
    "actor_rollout_ref.actor.optim.override_optimizer_config": {"fused": True},  # so ε is torch's 1e-8
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.actor.clip_ratio": 0.2,
    "actor_rollout_ref.actor.clip_ratio_low": 0.2,
    "actor_rollout_ref.actor.clip_ratio_high": 0.2,
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "trainer.total_epochs": 3,
}
TABLE_5_OF = {
    "run_corewarding-I.sh": {
        "actor_rollout_ref.actor.kl_loss_coef": 0.005,
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.6,  # paper: 0.8, which buys cache that nothing asks for
        "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",  # Eq. 4
    },
    "run_corewarding-II.sh": {
        "actor_rollout_ref.actor.kl_loss_coef": 0.001,
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.6,
        "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",  # Eq. 4
        "actor_rollout_ref.teacher.n": 8,
        "actor_rollout_ref.teacher.temperature": None,  # the student's, 1.0
        "actor_rollout_ref.teacher.decay_start": 0.99,
        "actor_rollout_ref.teacher.decay_end": 0.9999,
    },
}
TREE_SCRIPTS = ("corewarding-I", "corewarding-II", "corewarding-III")
TABLE_5_OF["run_corewarding-III.sh"] = TABLE_5_OF["run_corewarding-II.sh"]  # "as II"
TABLE_5_OF["run_baseline.sh"] = TABLE_5_OF["run_corewarding-I.sh"]  # "all under the same settings"


MAIN_OF = {
    "co_rewarding_i": "co_rewarding_i.main",
    "co_rewarding_ii": "co_rewarding_ii.main",
    "baseline": "co_rewarding.training.main",
}


def module_of(config_yaml: Path) -> str:
    return ".".join(part for part in config_yaml.parent.relative_to(REPO).parts if not part.startswith("Co-rewarding"))


def compose_tree(config_yaml: Path, overrides: list[str]) -> DictConfig:
    """The composed configuration, to be read and not changed."""
    return compose_once(config_yaml, tuple(overrides))


@functools.cache
def compose_once(config_yaml: Path, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_module(module_of(config_yaml), version_base=None):
        return compose(config_yaml.stem, overrides=list(overrides))


def second_wording(config_yaml: Path) -> list[str]:
    """What the tree leaves to be said: the rephrased questions, where it has any."""
    return ["data.train_aug_files=b.parquet"] if config_yaml.stem == "co_rewarding_i" else []


def yaml_of(script: Path) -> Path:
    (found,) = list(script.parent.glob("*/config/*.yaml")) or [BASELINE_YAML]
    return found


@pytest.fixture(scope="module")
def python_that_tells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `python` that prints its arguments, each ended by a NUL."""
    folder = tmp_path_factory.mktemp("bin")
    fake = folder / "python"
    fake.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    fake.chmod(0o755)
    return folder


def arguments(script: Path, folder: Path, *extra: str, **environment: str) -> list[str]:
    """What the script hands to python: ["-m", module, "key=value", …]."""
    settable = variables(script)
    clean = {name: value for name, value in os.environ.items() if name not in settable}
    done = subprocess.run(
        ["bash", str(script), *extra],
        # an active environment (whichever) keeps the script from putting its own in front of PATH
        env={**clean, **environment, "VIRTUAL_ENV": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stderr == ""
    assert done.stdout.endswith("\0")
    return done.stdout.split("\0")[:-1]


def variables(script: Path) -> dict[str, str]:
    """The settings at the top of a run script: name → default."""
    lines = script.read_text().splitlines()
    command = next((number for number, line in enumerate(lines) if line.startswith("exec ")), len(lines))
    return dict(re.findall(r"^([A-Z0-9_]+)=\$\{\1:?-([^}]*)\}", "\n".join(lines[:command]), flags=re.MULTILINE))


def test_nothing_is_left_out() -> None:
    assert [path.name for path in SCRIPTS] == [f"run_{name}.sh" for name in (*TREE_SCRIPTS, "baseline")]
    assert {"cpu", "gpu"} <= set(PLATFORMS)
    ours = [
        path
        for folder in (REPO / "co_rewarding", *REPO.glob("Co-rewarding-*"), REPO / "scripts")
        for path in folder.rglob("*.yaml")
    ]
    assert sorted(ours) == sorted([*TREE_YAMLS, SHARED_YAML, *PLATFORM_YAMLS, *ROUTER_YAMLS])
    assert {script.name for script in SCRIPTS} <= TABLE_5_OF.keys(), "add the script's values of Table 5 above"


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("config_yaml", TREE_YAMLS, ids=lambda path: path.stem)
def test_every_yaml_composes(config_yaml: Path, platform: str) -> None:
    config = compose_tree(config_yaml, [f"platform={platform}", *second_wording(config_yaml)])
    assert config.trainer.device == {"cpu": "cpu", "gpu": "cuda"}[platform]
    container = OmegaConf.to_container(config, resolve=True)  # every interpolation of ours resolves
    # a delta over verl's configuration: all of its blocks are there
    assert {"data", "actor_rollout_ref", "algorithm", "reward", "trainer", "transfer_queue"} <= container.keys()
    # the blocks are the dataclasses with their defaults, of which only these differ
    changed = {"method": container["co_rewarding"]["method"]} | ({"poll_interval_s": 0.1} if platform == "cpu" else {})
    assert container["co_rewarding"] == asdict(Settings(**changed))
    assert Settings.read(config) == Settings(**changed)
    if config_yaml.stem == "co_rewarding_ii":
        assert container["actor_rollout_ref"]["teacher"] == asdict(TeacherSettings())
        assert TeacherSettings.read(config) == TeacherSettings(temperature=1.0)  # the student's


def test_whoever_composes_has_our_blocks() -> None:
    """Hydra imports the packages that hold the YAML, and they register what their YAML names."""
    program = """
from hydra import compose, initialize_config_module
with initialize_config_module("co_rewarding_ii.config", version_base=None):
    config = compose("co_rewarding_ii")
print(config.co_rewarding.watch_window, config.actor_rollout_ref.teacher.n)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "5 8\n"


@pytest.mark.parametrize("config_yaml", TREE_YAMLS, ids=lambda path: path.stem)
def test_gpu_is_the_default_platform(config_yaml: Path) -> None:
    assert compose_tree(config_yaml, []).trainer.device == "cuda"


def test_verl_writes_where_a_run_is_read(monkeypatch: pytest.MonkeyPatch, config: DictConfig) -> None:
    monkeypatch.setenv("RUNS_DIR", "elsewhere")
    run = RunDir(f"elsewhere/co-rewarding/{config.trainer.experiment_name}")
    assert Path(config.co_rewarding_run_dir) == run.path
    assert Path(config.trainer.default_local_dir) == run.checkpoints
    assert Path(config.trainer.rollout_data_dir) == run.rollouts
    assert Path(config.trainer.validation_data_dir) == run.validation


@pytest.mark.parametrize("config_yaml", TREE_YAMLS, ids=lambda path: path.stem)
def test_the_cpu_platform_leaves_the_method_alone(config_yaml: Path) -> None:
    # platform=cpu is about the machine: nothing that decides what is learned may differ
    gpu, cpu = (
        compose_tree(config_yaml, [f"platform={platform}", *second_wording(config_yaml)]) for platform in ("gpu", "cpu")
    )
    for key in (
        "algorithm",
        "reward.reward_manager",
        "actor_rollout_ref.actor.optim",
        "actor_rollout_ref.actor.loss_agg_mode",
        "actor_rollout_ref.actor.use_kl_loss",
        "actor_rollout_ref.actor.kl_loss_type",
        "actor_rollout_ref.actor.kl_loss_coef",
        "actor_rollout_ref.actor.policy_loss",
        "actor_rollout_ref.rollout.temperature",
        "actor_rollout_ref.rollout.n",
        "co_rewarding.min_agreement",
        "co_rewarding.equivalence",
    ):
        assert OmegaConf.select(gpu, key) == OmegaConf.select(cpu, key), key


@pytest.mark.parametrize("config_yaml", TREE_YAMLS, ids=lambda path: path.stem)
def test_an_unknown_key_does_not_compose(config_yaml: Path) -> None:
    with pytest.raises(Exception, match=r"co_rewarding\.foo"):
        compose_tree(config_yaml, ["co_rewarding.foo=1"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
class TestRunScript:
    def test_runs_our_module(self, script: Path, python_that_tells: Path) -> None:
        flag, module, *overrides = arguments(script, python_that_tells)
        assert (flag, module) == ("-m", MAIN_OF[yaml_of(script).stem])
        assert overrides
        assert all(re.fullmatch(r"[a-z_0-9.]+=.+", override) for override in overrides), overrides

    def test_its_keys_exist(self, script: Path, python_that_tells: Path) -> None:
        config = compose_tree(yaml_of(script), [])
        _, _, *overrides = arguments(script, python_that_tells)
        keys = [override.partition("=")[0] for override in overrides]
        assert len(keys) == len(set(keys)), "a key is passed twice"
        for key in keys:
            if key == "platform":
                continue
            block, _, name = key.rpartition(".")  # a list, since `in` does not see a key whose value is ???
            assert name in list(OmegaConf.select(config, block)), (
                f"{script.name}: {key} is not a key of the configuration"
            )

    def test_passes_the_papers_settings(self, script: Path, python_that_tells: Path) -> None:
        config = compose_tree(yaml_of(script), arguments(script, python_that_tells)[2:])
        for key, expected in {**TABLE_5, **TABLE_5_OF[script.name]}.items():
            found = OmegaConf.select(config, key)
            found = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
            assert found == expected, f"{key}={found}, Table 5: {expected}"
        # one optimizer step a batch, of all its questions
        assert config.actor_rollout_ref.actor.ppo_mini_batch_size == config.data.train_batch_size
        assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (1, 4)  # the paper's hardware

    def test_each_line_can_be_set_by_the_environment(self, script: Path, python_that_tells: Path) -> None:
        defaults = arguments(script, python_that_tells)
        names = variables(script)
        assert {"MODEL_PATH", "TRAIN_FILE", "VAL_FILE", "LEARNING_RATE", "NUM_ROLLOUTS", "PLATFORM"} <= names.keys()
        for name in names:
            changed = arguments(script, python_that_tells, **{name: "a-value"})
            assert len(changed) == len(defaults), name
            differing = [new for old, new in zip(defaults, changed, strict=True) if old != new]
            assert differing, f"{name} is not used"
            reached = [override for override in differing if override.endswith(("=a-value", "='a-value'"))]
            assert reached, f"{name} does not reach the command"

    def test_every_setting_of_the_command_has_its_line(self, script: Path, python_that_tells: Path) -> None:
        # no value is hidden in the command below the lines to edit
        text = script.read_text()
        command = text[text.index("\nexec python") :]
        fixed = "co_rewarding.method=co_rewarding_III"  # what makes it that script
        assert all("$" in line or fixed in line for line in command.splitlines() if "=" in line)

    def test_trailing_overrides_come_last_and_win(self, script: Path, python_that_tells: Path) -> None:
        trailing = ["trainer.total_epochs=1", "actor_rollout_ref.rollout.n=4", "platform=cpu"]
        given = arguments(script, python_that_tells, *trailing)
        assert given[-3:] == trailing
        config = compose_tree(yaml_of(script), given[2:])
        assert config.trainer.total_epochs == 1
        assert config.actor_rollout_ref.rollout.n == 4
        assert config.trainer.device == "cpu"

    def test_values_with_spaces_and_dollars_arrive_whole(self, script: Path, python_that_tells: Path) -> None:
        given = arguments(script, python_that_tells, "--cfg", "job", MODEL_PATH="/models/a b $HOME")
        assert "actor_rollout_ref.model.path='/models/a b $HOME'" in given
        assert given[-2:] == ["--cfg", "job"]

    def test_sampled_validation_follows_the_temperature(self, script: Path, python_that_tells: Path) -> None:
        greedy = compose_tree(yaml_of(script), arguments(script, python_that_tells)[2:])
        assert greedy.actor_rollout_ref.rollout.val_kwargs.do_sample is False
        assert greedy.actor_rollout_ref.rollout.val_kwargs.temperature == 0
        # the paper evaluates at 0.8 (Table 5)
        sampled = compose_tree(yaml_of(script), arguments(script, python_that_tells, VAL_TEMPERATURE="0.8")[2:])
        assert sampled.actor_rollout_ref.rollout.val_kwargs.do_sample is True
        assert sampled.actor_rollout_ref.rollout.val_kwargs.temperature == 0.8


def test_the_scripts_differ_by_their_method_only(python_that_tells: Path) -> None:
    """The same lines in the same order: what `diff` shows between two run scripts is the method."""
    keys = {}
    for script in SCRIPTS:
        _, _, *overrides = arguments(script, python_that_tells)
        keys[script.name] = [override.partition("=")[0] for override in overrides]
    first = keys["run_corewarding-I.sh"]
    teacher = {
        f"actor_rollout_ref.teacher.{name}"
        for name in ("n", "stop_decided", "decay_start", "decay_end", "kl_anchor", "temperature", "rollout")
    }
    for name, more, less in (
        ("run_corewarding-II.sh", teacher, {"data.train_aug_files", "co_rewarding.num_votes"}),
        ("run_corewarding-III.sh", teacher, {"co_rewarding.num_votes"}),
        ("run_baseline.sh", set(), {"data.train_aug_files"}),
    ):
        other = keys[name]
        assert [key for key in first if key in other] == [key for key in other if key in first], name
        assert set(other) - set(first) == more, name
        assert set(first) - set(other) == less, name


TTT = REPO / "scripts/run_ttt.sh"


def refused(script: Path, **environment: str) -> str:
    """What a script says that ends with 2 before it starts anything."""
    named = ("METHOD", "METHODS", "FILE", "AUG_FILE", "TRAIN_FILE", "TRAIN_AUG_FILE", "VAL_FILE")
    clean = {name: value for name, value in os.environ.items() if name not in named}
    done = subprocess.run(
        ["bash", str(script)], env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.parametrize("method", [m for m in METHODS.values() if not m.needs_labels], ids=lambda method: method.name)
def test_test_time_training_asks_and_measures_one_file(method: Method, python_that_tells: Path) -> None:
    settings = {"METHOD": method.name, "FILE": "/b.parquet"}
    if method.needs_both_views and not method.repeats_original:
        assert "set AUG_FILE" in refused(TTT, **settings)
        settings["AUG_FILE"] = "/rephrased.parquet"
    else:
        assert f"METHOD={method.name} asks each question in one wording" in refused(TTT, **settings, AUG_FILE="/x")
    given = dict(pair.split("=", 1) for pair in arguments(TTT, python_that_tells, **settings)[2:])
    assert given["data.train_files"] == given["data.val_files"] == "'/b.parquet'"
    second = "/b.parquet" if method.repeats_original else settings.get("AUG_FILE")
    assert given.get("data.train_aug_files") == (second and f"'{second}'")
    # avg@8 at the paper's temperature
    keys = ("n", "temperature", "do_sample")
    assert [given[f"actor_rollout_ref.rollout.val_kwargs.{key}"] for key in keys] == ["8", "0.8", "True"]
    assert ("actor_rollout_ref.teacher.start_share" in given) == method.needs_teacher
    assert given.get("co_rewarding.method", method.name).strip("'") == method.name


@pytest.mark.parametrize(
    ("method", "file", "aug_file"),
    [
        ("majority_voting", "amc/test", None),
        ("co_rewarding_I", "amc/paired_original", "amc/paired_rephrased"),
        ("co_rewarding_III", "amc/paired_original", "amc/paired_rephrased"),
        ("majority_voting_both_views", "amc/paired_original", "amc/paired_rephrased"),
        ("co_rewarding_I_same_wording", "amc/paired_original", "amc/paired_original"),
    ],
)
def test_test_time_training_is_of_amc_by_default(
    method: str, file: str, aug_file: str | None, python_that_tells: Path
) -> None:
    given = dict(pair.split("=", 1) for pair in arguments(TTT, python_that_tells, METHOD=method)[2:])
    assert given["data.train_files"] == given["data.val_files"] == f"'{REPO}/data/{file}.parquet'"
    assert given.get("data.train_aug_files") == (aug_file and f"'{REPO}/data/{aug_file}.parquet'")


def test_the_scripts_know_every_vote() -> None:
    program = f'source "{REPO}/scripts/run_common.sh"; for method; do vote_of "$method"; echo; done'
    votes = {name: name if method.is_consensus else "" for name, method in METHODS.items()}
    votes |= {f"0.5*my.py:f + {name}": vote for name, vote in votes.items()}
    done = subprocess.run(["bash", "-c", program, "", *votes], capture_output=True, text=True, check=True)
    assert dict(zip(votes, done.stdout.splitlines(), strict=True)) == votes


def test_a_control_is_one_word_in_the_script_of_co_rewarding_i(python_that_tells: Path) -> None:
    script = REPO / "Co-rewarding-I/run_corewarding-I.sh"
    usual = arguments(script, python_that_tells)
    for name, given in METHODS.items():
        if given.consensus and not given.needs_teacher and given.needs_both_views:
            changed = [
                argument for argument in arguments(script, python_that_tells, METHOD=name) if argument not in usual
            ]
            assert changed == ([] if name == "co_rewarding_I" else [f"co_rewarding.method='{name}'"])
            CrossViewRewardManager.check(name)


@pytest.mark.parametrize("script", ["II", "III"])
def test_where_the_teacher_votes_more_votes_are_its_own(script: str, python_that_tells: Path) -> None:
    path = REPO / f"Co-rewarding-II/run_corewarding-{script}.sh"
    message = refused(path, NUM_VOTES="64")
    assert message == "error: NUM_VOTES=64: the teacher votes; leave it out and set TEACHER_NUM_ROLLOUTS\n"
    assert (
        refused(TTT, METHOD=f"co_rewarding_{script}", AUG_FILE="/x" if script == "III" else "", NUM_VOTES="64")
        == message
    )
    assert arguments(path, python_that_tells, NUM_VOTES="0")  # what the others have by default


def test_test_time_training_with_more_votes(python_that_tells: Path) -> None:
    given = arguments(TTT, python_that_tells, FILE="/b.parquet", NUM_ROLLOUTS="32", NUM_VOTES="64")
    assert {"actor_rollout_ref.rollout.n=32", "co_rewarding.num_votes=64"} <= {*given}


@pytest.mark.parametrize("method", ["ground_truth", "incorrect"])
def test_test_time_training_has_no_answers(method: str) -> None:
    assert "reads the answers" in refused(TTT, METHOD=method)


def test_rewards_of_ones_own_in_test_time_training(python_that_tells: Path, tmp_path: Path) -> None:
    own = tmp_path / "it's.py"
    given = arguments(TTT, python_that_tells, METHOD=f"{own}:short", FILE="/b.parquet")
    assert given[1] == "co_rewarding.training.main" and f"co_rewarding.method='{tmp_path}/it\\'s.py:short'" in given
    for vote, module in (
        ("co_rewarding_I", "co_rewarding_i.main"),
        ("co_rewarding_III", "co_rewarding_ii.main"),
        ("majority_voting_both_views", "co_rewarding_i.main"),
    ):
        settings = {"METHOD": f"0.5*{own}:short + {vote}", "FILE": "/b.parquet"}
        assert "set AUG_FILE" in refused(TTT, **settings)
        given = arguments(TTT, python_that_tells, **settings, AUG_FILE="/x.parquet")
        assert given[1] == module
        # the last of a key wins
        assert [pair for pair in given if pair.startswith("co_rewarding.method=")][-1].endswith(f"short + {vote}'")
    assert "reads the answers" in refused(TTT, METHOD="majority_voting+0.1*ground_truth")
    own.write_text("def short(inputs): ...\nshort.needs_labels = True\n")
    assert "reads the answers" in refused(TTT, METHOD=f"random+0.1*{own}:short")


@pytest.mark.parametrize("name", ["TRAIN_FILE", "TRAIN_AUG_FILE", "VAL_FILE"])
def test_test_time_training_ignores_no_file(name: str) -> None:
    assert f"error: {name}=/mine.parquet" in refused(TTT, **{name: "/mine.parquet"})


def test_the_comparison_is_of_every_method() -> None:
    listed = re.findall(r'^ALL\+?="(.*)"$', (REPO / "scripts/compare_methods.sh").read_text(), flags=re.MULTILINE)
    assert sorted(" ".join(listed).split()) == sorted(METHODS)
    assert "METHODS: co_rewarding_IV is none of" in refused(
        REPO / "scripts/compare_methods.sh", METHODS="co_rewarding_IV"
    )


@pytest.mark.parametrize(
    ("method", "vote"),
    [
        ("majority_voting", "majority_voting"),
        ("co_rewarding_III", "co_rewarding_III"),
        ("~/c++/my dir/brevity.py:short", ""),
        ("my.lib.brevity:short+entropy", ""),
        ("0.1*brevity.py:short + 2*co_rewarding_II", "co_rewarding_II"),
    ],
)
def test_the_scripts_find_the_vote_that_the_program_finds(method: str, vote: str) -> None:
    common = f'source {REPO}/scripts/run_common.sh; vote_of "$0"'
    done = subprocess.run(["bash", "-c", common, method], capture_output=True, text=True, check=True)
    assert done.stdout == vote
    assert [name for name in METHODS if METHODS[name].rule == consensus_of(method)] == [vote] * bool(vote)


@pytest.mark.parametrize("config_yaml", TREE_YAMLS, ids=lambda path: path.stem)
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_run_starts_a_ray_of_its_own(config_yaml: Path, platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [f"platform={platform}", *second_wording(config_yaml)]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert compose_tree(config_yaml, overrides).ray_kwargs.ray_init.address == "local"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert compose_tree(config_yaml, overrides).ray_kwargs.ray_init.address == "10.0.0.1:6379"
