# SPDX-License-Identifier: Apache-2.0
"""All starts in a run directory must agree in the settings and data that determine what is learned.

RUN_DIR/started_as.json records them before training begins:

    settings    key → value, of MUST_STAY, and of the number of steps where a schedule is made for it
    contents    key → {"sha256", "given"}: the questions, by what is trained on of them, the model's files, and the
                files of a user's reward. A moved file agrees. A model that is no directory here is its hub name,
                with no sha256
    origin      the checkpoint of another run that it started from, if any

A resuming start that differs is refused before Ray. Other changes are allowed and listed: the learning rate (which
engine.py sets in the restored schedule), logging, the save interval, sizes of the machine. A directory with no
checkpoint yet, and trainer.resume_mode=disable, start over and write the file again. trainer.resume_mode=resume_path in
a directory without checkpoints begins a new run from a checkpoint of another one: how they differ is listed. The same
command resumes that run from its own last checkpoint, once it has one.

Runs older than this file are compared with the configuration of their last start, and with questions and model if they
are still at the recorded paths.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from co_rewarding.algo.answer_format import label_of_format, own_function_of
from co_rewarding.algo.method_names import label_of, terms_of
from co_rewarding.algo.methods import Method, method
from co_rewarding.algo.own_function import source_sha256
from co_rewarding.storage.files import atomic_write_text, short_json
from co_rewarding.storage.questions import question_tables
from co_rewarding.storage.rows import ANSWER_COLUMNS, MAX_NAMED, as_paths, content_sha256, ground_truth, question_id
from co_rewarding.storage.run_dir import (
    ACTOR,
    ADAPTER_FACTS,
    SAVE_STATE,
    STATE_FILE,
    TRACKER,
    RunDir,
    saved_steps,
    step_of,
)
from co_rewarding.storage.stated_as import stated_as
from co_rewarding.training.asking import TEMPLATE, THINKING
from co_rewarding.training.checkpoint import is_of_another, resume_dir, set_aside
from co_rewarding.training.questions import reading
from co_rewarding.training.run_name import is_default, older_names
from co_rewarding.training.run_script import variable_of
from co_rewarding.training.settings import Settings

LORA_RANK = "actor_rollout_ref.model.lora_rank"
OF_ADAPTER = ("actor_rollout_ref.model.lora_alpha", "actor_rollout_ref.model.target_modules")
MUST_STAY = (  # keys, and blocks with all that is in them
    "co_rewarding.method",  # and the files that it names, in contents
    "co_rewarding.num_votes",
    "co_rewarding.min_agreement",
    "co_rewarding.answer_format",
    "co_rewarding.payout",
    "co_rewarding.max_label_flips",
    "co_rewarding.equivalence",
    "co_rewarding.seed",
    "data.train_batch_size",
    "data.max_prompt_length",
    "data.max_response_length",
    "data.filter_overlong_prompts",
    "data.truncation",
    "data.train_max_samples",
    "data.shuffle",
    "data.seed",
    "data.apply_chat_template_kwargs",
    "actor_rollout_ref.model.tokenizer_path",
    TEMPLATE,
    LORA_RANK,
    *OF_ADAPTER,
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.prompt_length",
    "actor_rollout_ref.rollout.response_length",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.rollout.top_k",
    "actor_rollout_ref.rollout.top_p",
    "actor_rollout_ref.teacher",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.actor.ppo_epochs",
    "actor_rollout_ref.actor.shuffle",
    "actor_rollout_ref.actor.data_loader_seed",
    "actor_rollout_ref.actor.clip_ratio",
    "actor_rollout_ref.actor.clip_ratio_low",
    "actor_rollout_ref.actor.clip_ratio_high",
    "actor_rollout_ref.actor.clip_ratio_c",
    "actor_rollout_ref.actor.loss_agg_mode",
    "actor_rollout_ref.actor.loss_scale_factor",
    "actor_rollout_ref.actor.policy_loss",
    "actor_rollout_ref.actor.entropy_coeff",
    "actor_rollout_ref.actor.use_kl_loss",
    "actor_rollout_ref.actor.kl_loss_coef",
    "actor_rollout_ref.actor.kl_loss_type",
    "actor_rollout_ref.actor.grad_clip",
    "actor_rollout_ref.actor.optim",  # verl restores it from the checkpoint: a change would have no effect
    "algorithm",
)
MAY_CHANGE = (  # within those blocks
    "actor_rollout_ref.actor.optim.lr",
    "actor_rollout_ref.actor.optim.total_training_steps",  # verl's own copy of the trainer's value
    "actor_rollout_ref.teacher.check_log_probs",
    "actor_rollout_ref.teacher.rollout",  # teacher, student and questions are the same in both orders
    "actor_rollout_ref.teacher.stop_decided",  # and so are the labels
)
USUAL = {  # behaviour of runs older than the key
    **{f"{Settings.NAME}.{field.name}": field.default for field in fields(Settings) if field.default is not MISSING},
    "actor_rollout_ref.teacher.kl_anchor": "teacher",
    THINKING: None,
}
MODEL, QUESTIONS, REPHRASED = "actor_rollout_ref.model.path", "data.train_files", "data.train_aug_files"
TEACHER_TEMPERATURE = "actor_rollout_ref.teacher.temperature"
METHOD, ANSWER_FORMAT = "co_rewarding.method", "co_rewarding.answer_format"
STEPS, EPOCHS = "trainer.total_training_steps", "trainer.total_epochs"
NOT_LISTED = ("co_rewarding_run_dir", "trainer.experiment_name", "trainer.resume_mode", "trainer.resume_from_path")
LEADERS = {  # follow these, unless they are set
    "actor_rollout_ref.rollout.prompt_length": "data.max_prompt_length",
    "actor_rollout_ref.rollout.response_length": "data.max_response_length",
    TEMPLATE: "co_rewarding.chat_template",
    THINKING: "co_rewarding.enable_thinking",
}
MAX_LISTED = 8  # changes in the line that lists them
MODEL_FILES = (
    "config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template*", "*.safetensors", "*.bin", "*.gguf",
)  # fmt: skip
WHOLE_BYTES, SAMPLES, SAMPLE_BYTES = 16 << 20, 256, 4096  # larger files are hashed by size and this many samples

AUTO = OmegaConf.create({"trainer": {"resume_mode": "auto"}})
Identity = dict[str, Any]  # as in the file


def check_started_as(config: DictConfig) -> None:
    """Check that this start agrees with the run that it would resume.

    Raises:
        ValueError: names the first differences with both values, and the fix.
    """
    folder, run = resume_dir(config), RunDir(config.co_rewarding_run_dir)
    if folder is None:
        return
    if is_of_another(config, folder):
        if (own := resume_dir(OmegaConf.merge(config, AUTO))) is None:
            return check_same_adapter(config, folder)  # begins a new run
        raise ValueError(
            f"trainer.resume_from_path={folder}: {run.path} has its own checkpoints and did not start from that one; "
            f"choose another RUN_NAME, or leave it out to resume from step {step_of(own)}"
        )
    found = differences(_recorded(run) or {}, identity(config))
    if found:
        steps = any(key in (STEPS, EPOCHS) for key, *_ in found)
        why = "; the schedules of learning rate and teacher depend on the number of steps" if steps else ""
        raise ValueError(
            f"co_rewarding_run_dir={run.path}: its run was started with {_named(found)}{why}; restore the old values "
            f"to resume from step {step_of(folder)}, or choose another RUN_NAME for a new run"
        )


def check_same_adapter(config: DictConfig, folder: Path) -> None:
    """A checkpoint of another run has an adapter if this run trains one, and of the same model.

    vLLM reads the model itself and is sent adapters alone, so another model of the same shape would answer.

    Raises:
        ValueError: names both.
    """
    given = f"trainer.resume_from_path={folder}"
    rank, has_one = _select(config, LORA_RANK) or 0, (folder / ACTOR / ADAPTER_FACTS).exists()
    if bool(rank) != has_one:
        trained = "an adapter" if has_one else "all weights"
        raise ValueError(
            f"{given}: is of a run that trains {trained}, and {LORA_RANK}={rank}; train the same, or set MODEL_PATH to "
            "an export of that checkpoint (scripts/export_checkpoint.py)"
        )
    origin = RunDir.containing(folder)
    if not rank or origin is None:
        return
    found = differences(_recorded(origin) or {}, identity(config))
    if of_adapter := [one for one in found if one[0] in (MODEL, LORA_RANK, *OF_ADAPTER)]:
        raise ValueError(f"{given}: its adapter is of a run that was started with {_named(of_adapter)}; set the same")


def resume_from_own(config: DictConfig) -> None:
    """Let the command that started a run from another run's checkpoint resume it from its own last one.

    Call before the checks: invalid values are left to them.
    """
    trainer = config.trainer
    asked, folders = trainer.resume_from_path, (config.co_rewarding_run_dir, trainer.default_local_dir)
    if trainer.resume_mode != "resume_path" or not all(isinstance(folder, str) for folder in (asked, *folders)):
        return
    run, own = RunDir(folders[0]), Path(folders[1], TRACKER)
    if not run.started_as.is_file() or not own.is_file():
        return
    with suppress(ValueError):  # garbled
        if _recorded(run).get("origin") == str(Path(asked).resolve()):
            config.merge_with(AUTO)


def check_older_name(config: DictConfig) -> None:
    """A run with an older default name does not silently start over under its new default name.

    Raises:
        ValueError: gives both names.
    """
    run, name_now = RunDir(config.co_rewarding_run_dir), config.trainer.experiment_name
    if not is_default(config) or run.path.name != name_now or resume_dir(config) is not None:
        return
    for name in older_names(config):
        older = RunDir(run.path.with_name(name))
        if not saved_steps(older.checkpoints) or (was := _recorded(older)) is None:
            continue
        if not differences(was, identity(config)):
            raise ValueError(
                f"RUN_NAME is not set: {older.path} is this run under an older default name; "
                f"RUN_NAME={name} resumes it, RUN_NAME={name_now} starts a new one"
            )


def begin(config: DictConfig) -> list[str]:
    """Record this start in started_as.json, before its configuration; the directory is locked and checked.

    Returns:
        Lines to print: where it resumes from, and what has changed.

    Raises:
        ValueError: the file cannot be written.
    """
    run, folder, now = RunDir(config.co_rewarding_run_dir), resume_dir(config), identity(config)
    was: Identity = {"settings": {}, "contents": {}}
    lines = [] if folder is None else [resuming(config, folder)]
    if folder is None:
        if config.trainer.resume_mode == "disable" and (steps := set_aside(Path(config.trainer.default_local_dir))):
            lines.append(
                f"trainer.resume_mode=disable: starts over and replaces the checkpoints of steps {_listed(steps)}"
            )
    elif is_of_another(config, folder):
        now["origin"] = str(folder.resolve())
        origin = RunDir.containing(folder)
        if origin and (found := differences(_recorded(origin) or {}, now)):
            lines.append(f"a new run from another run's checkpoint: {origin.path} was started with {_named(found, 99)}")
    else:
        was = _recorded(run) or was
        if not run.started_as.is_file():
            lines.append(
                f"the run is older than {run.started_as.name}: this start was compared with the "
                f"configuration in {run.last_configuration() or 'none: no record found'}"
            )
        if changed := _changes(run, config):
            lines.append(f"changed since the last start: {_listed(changed)}")
    # what the first start recorded, and what only later versions record
    kept = {**was, **now, **{part: {**now[part], **was[part]} for part in ("settings", "contents")}}
    try:
        atomic_write_text(run.started_as, json.dumps(kept, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"{run.started_as}: cannot be written ({error.strerror}); free disk space there") from error
    return lines


def resuming(config: DictConfig, folder: Path) -> str:
    """Where a start resumes: step 20 of 174, saved 2026-11-26 21:03; the number of steps only if known."""
    saved = next(file for file in (folder / SAVE_STATE, folder / ACTOR) if file.exists()).stat().st_mtime
    total = OmegaConf.select(config, STEPS)
    if total is None and not is_of_another(config, folder):
        try:
            state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            total = state["steps_per_epoch"] * OmegaConf.select(config, EPOCHS)
        except (OSError, ValueError, KeyError, TypeError):  # of an earlier version
            total = None
    of = f" of {total}" if total is not None else ""
    return f"Resuming from step {step_of(folder)}{of}, saved {datetime.fromtimestamp(saved):%Y-%m-%d %H:%M} ({folder})"


def identity(config: DictConfig) -> Identity:
    """Settings and contents that all starts share; missing files of a recorded configuration are left out."""
    return {"settings": _settings(config), "contents": _contents(config)}


def differences(was: Mapping[str, Mapping[str, Any]], now: Identity) -> list[tuple[str, str, str]]:
    """(key, old value, new value) of shared keys that differ, readable."""
    found = []
    for key, new in now["contents"].items():
        old = was.get("contents", {}).get(key, new)
        if (old["sha256"] or old["given"]) != (new["sha256"] or new["given"]):
            found.append((key, _content(old), _content(new)))
    settings = was.get("settings") or now["settings"]
    for key, new in now["settings"].items():
        old = settings.get(key, USUAL.get(key, new))
        if old != new and not any(key == named for named, *_ in found):
            found.append((key, _shown(key, old), _shown(key, new)))
    return sorted(found, key=lambda difference: difference[0] != METHOD)  # which explains the rest


def _recorded(run: RunDir) -> Identity | None:
    """The record of how a run was started, None if there is none."""
    if run.started_as.is_file():
        try:
            found = json.loads(run.started_as.read_text(encoding="utf-8"))
            contents = {
                key: {part: value[part] for part in ("sha256", "given")} for key, value in found["contents"].items()
            }
            origin = {"origin": str(found["origin"])} if "origin" in found else {}
            return {"settings": dict(found["settings"]), "contents": contents, **origin}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{run.started_as}: not a valid record ({str(error)[:60]}); restore it, or remove it to use only "
                "the configurations in hydra/"
            ) from None
    config = _last(run)
    return None if config is None else identity(config)


def _last(run: RunDir) -> DictConfig | None:
    path = run.last_configuration()
    return _configuration(path, path.stat().st_mtime_ns) if path else None


@functools.lru_cache(maxsize=2)  # a second each, needed more than once in a start
def _configuration(path: Path, _modified_ns: int) -> DictConfig | None:
    try:
        found = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError):
        return None
    return found if isinstance(found, DictConfig) else None


def _settings(config: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in MUST_STAY:
        leaves = _leaves(_select(config, key), key)
        found |= {name: USUAL.get(name) if value is None else value for name, value in leaves if name not in MAY_CHANGE}
    if not found.get(LORA_RANK):  # meaningless for a run without an adapter
        found = {name: value for name, value in found.items() if name not in OF_ADAPTER}
    optim, teacher = "actor_rollout_ref.actor.optim", _select(config, "actor_rollout_ref.teacher")
    lr_moves = found.get(f"{optim}.lr_scheduler_type") != "constant" or found.get(f"{optim}.lr_warmup_steps_ratio") != 0
    if teacher and found.get(TEACHER_TEMPERATURE) is None:
        found[TEACHER_TEMPERATURE] = _select(config, "actor_rollout_ref.rollout.temperature")
    found.setdefault(THINKING, None)
    found[ANSWER_FORMAT] = label_of_format(found[ANSWER_FORMAT] or "")
    with suppress(ValueError, TypeError):  # an invalid method of an earlier start
        found[METHOD] = label_of(found[METHOD])
    found["actor_rollout_ref.teacher"] = teacher is not None  # a reward that is no vote works with and without one
    if lr_moves or (teacher and teacher.get("update")):
        steps = _select(config, STEPS)
        found |= {STEPS: steps, EPOCHS: _select(config, EPOCHS) if steps is None else None}
    return found


def _contents(config: DictConfig) -> dict[str, dict[str, str | None]]:
    found = {}
    chosen = _method(config)
    if chosen is not None and (own := [term.name for term in terms_of(chosen.name) if term.is_own]):
        digest = content_sha256(source_sha256(function) for function in own)
        found[METHOD] = {"sha256": digest, "given": chosen.name}
    own_format = own_function_of(str(_select(config, ANSWER_FORMAT) or ""))
    if own_format:
        with suppress(ValueError):  # an invalid function of an earlier start
            found[ANSWER_FORMAT] = {"sha256": source_sha256(own_format), "given": own_format}
    for key in (QUESTIONS, REPHRASED):
        files = _select(config, key)
        paths = [Path(path).expanduser() for path in as_paths(files)] if files else []
        if paths and all(path.exists() for path in paths):
            with_labels = chosen is not None and chosen.needs_labels
            digest = _questions_sha256(_stats(paths), with_labels, str(_select(config, "data.answer_format") or ""))
            found[key] = {"sha256": digest, "given": ", ".join(map(str, paths))}
        elif not paths:
            found[key] = {"sha256": None, "given": "null"}  # one view
    model = _select(config, MODEL)
    if isinstance(model, str):
        folder = Path(model).expanduser()
        if folder.is_dir():
            found[MODEL] = {"sha256": _model_sha256(folder), "given": str(folder)}
        elif model.count("/") == 1 and not model.startswith((".", "/", "~")):
            found[MODEL] = {"sha256": None, "given": model}
    return found


def _stats(paths: Sequence[Path]) -> tuple[tuple[Path, tuple[tuple[int, int], ...]], ...]:
    """Each path with size and time of its files."""
    found = []
    for path in paths:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found.append((path, tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)))
    return tuple(found)


def _method(config: DictConfig) -> Method | None:
    try:
        return method(_select(config, METHOD))
    except (ValueError, TypeError):  # an invalid method of an earlier start
        return None


def _stated(row: Mapping[str, Any], usual: str) -> list[Any]:
    """The row's answer format, and the content, not the path, of a function that reads it."""
    spec, choices = stated_as(row)
    own = own_function_of(spec)
    if own and spec != usual:  # the default is in the settings
        return [label_of_format(spec), choices, source_sha256(own)]
    return ["" if own else spec, choices]


@functools.lru_cache(maxsize=4)  # needed more than once in a start
def _questions_sha256(
    stats: tuple[tuple[Path, tuple[tuple[int, int], ...]], ...], with_labels: bool, answer_format: str
) -> str | None:
    """Hash of the training data: ids, prompts, labels if the reward reads them, options, answer formats."""
    columns = ["prompt", "extra_info", *(["reward_model"] if with_labels else []), *ANSWER_COLUMNS]
    try:
        tables = question_tables([path for path, _ in stats], reading({"answer_format": answer_format}))
        rows = [
            row
            for table in tables
            for row in table.select([name for name in columns if name in table.column_names]).to_pylist()
        ]
        return content_sha256(
            [
                question_id(row),
                row["prompt"],
                *([ground_truth(row)] if with_labels else []),
                *([_stated(row, answer_format)] if any(map(row.get, ANSWER_COLUMNS)) else []),
            ]
            for row in rows
        )
    except (OSError, ValueError, TypeError, KeyError):  # an invalid file of an earlier start
        return None


def _model_sha256(folder: Path) -> str:
    """Hash of configuration, tokenizer and weights: large files by size and samples, which any training changes."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()}):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                digest.update(file.read())
                continue
            for sample in range(SAMPLES):
                file.seek((size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _changes(run: RunDir, config: DictConfig) -> list[str]:
    """Allowed changes since the configuration of the last start."""
    last = _last(run)
    if last is None:
        return []
    fixed = {*_settings(config), MODEL, QUESTIONS, REPHRASED, *NOT_LISTED}
    old, new = (dict(_leaves(OmegaConf.to_container(which, resolve=False), "")) for which in (last, config))
    keys = [key for key in {**new, **old} if key not in fixed and old.get(key) != new.get(key)]
    return [f"{key} {short_json(old.get(key))} → {short_json(new.get(key))}" for key in keys]


def _named(found: Sequence[tuple[str, str, str]], most: int = MAX_NAMED) -> str:
    """The first differences in words, one per setting."""
    once = {}
    for key, old, new in found:
        leader = LEADERS.get(key, key)
        variable = variable_of(leader)
        text = f"{key}={old}, now {new}" + (f" ({variable} in the run script)" if variable else "")
        once.setdefault((variable or leader, old, new), text)
    texts = list(once.values())
    return "; ".join(texts[:most]) + (f"; and {len(texts) - most} more" if len(texts) > most else "")


def _listed(items: Sequence[Any]) -> str:
    more = f" and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return ", ".join(map(str, items[:MAX_LISTED])) + more


def _shown(key: str, value: Any) -> str:
    if key == TEMPLATE and isinstance(value, str):  # two may share a beginning
        return f"a template of {len(value):,} characters ({hashlib.sha256(value.encode()).hexdigest()[:8]})"
    return short_json(value)


def _content(value: Mapping[str, Any]) -> str:
    return value["given"] + (f" (content {value['sha256'][:8]})" if value["sha256"] else "")


def _select(config: DictConfig, key: str) -> Any:
    """A value, or a block as a mapping; None if missing, or if a recorded configuration cannot be resolved."""
    try:
        found = OmegaConf.select(config, key)
        return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
    except OmegaConfBaseException:
        return None


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node
