# SPDX-License-Identifier: Apache-2.0
"""From a composed configuration to a finished run: check everything that can be checked, then start Ray and train.

Exit codes: 0 all planned steps done, 1 the run failed or did fewer steps than planned, 2 the configuration is wrong
(one line on stderr, before Ray starts), 130 Ctrl-C, 143 SIGTERM. However a run ends, it is cleaned up on this machine
(leftovers.py).
"""

import fcntl
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NoReturn
from uuid import uuid4

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from co_rewarding.algo.answer_format import absolute_spec
from co_rewarding.algo.method_names import absolute_name
from co_rewarding.algo.own_function import OwnFunctionError
from co_rewarding.storage import provenance
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.training import asking, leftovers, on_end, router, run_script, started_as, stopping, wandb_run
from co_rewarding.training.console import PROGRESS, say
from co_rewarding.training.forking.start import ForkServer, fork_server
from co_rewarding.training.loopback import stay_on_this_machine
from co_rewarding.training.preflight.check import check_config
from co_rewarding.training.preflight.machine import UnfitCluster, check_cluster, cores, reserved_cpus, starts_own_ray
from co_rewarding.training.preflight.overrides import explained
from co_rewarding.training.preflight.verl_version import check_verl_version
from co_rewarding.training.settings import ConfigBlock
from co_rewarding.training.start_times import StartTimes

UNREADABLE = "is not a valid value; quote text with other characters than letters, digits and ._/-: {0}=\"'…'\""


def run_main(hydra_main: Callable[[], None]) -> None:
    """Run a `@hydra.main` function; a wrong verl version, key or value gives one line instead of a traceback."""
    # Ray prints the lines of its processes here: in a pipe or a file, progress would wait until a block is full
    sys.stdout.reconfigure(line_buffering=True)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra's errors reach us instead of printing a shortened traceback
    for name, meant in run_script.unread(os.environ).items():
        # marked as progress, so that scripts that show only progress show it
        print(f"{PROGRESS} WARNING {name}={os.environ[name]}: no script reads it; is it {meant}?", file=sys.stderr)
    with on_end.on_end():
        try:
            check_verl_version()
        except ValueError as error:
            _refuse(error)
        try:
            hydra_main()
        except (HydraException, OmegaConfBaseException) as error:
            _refuse(_explained(error))


def launch(config: DictConfig, trainer: str, checks: Sequence[Callable[[DictConfig], None]] = ()) -> None:
    """Check the configuration and train.

    Args:
        config: verl's `ppo_trainer` with the delta of a tree.
        trainer: "module.class" of the trainer; imported only in the process that trains.
        checks: the tree's additional checks after `check_config`; each raises ValueError with one line.
    """
    on_end.about_to_run(config)
    stay_on_this_machine(config)
    with fork_server(config, trainer.rpartition(".")[0]) as server:
        _launch(config, trainer, checks, server)


def _launch(
    config: DictConfig, trainer: str, checks: Sequence[Callable[[DictConfig], None]], server: ForkServer | None
) -> None:
    times = StartTimes(psutil.Process().create_time())
    try:
        started_as.resume_from_own(config)
        asking.settle(config)
        # before files that are no parquet are converted, whose rows name it
        config.co_rewarding.answer_format = absolute_spec(str(config.co_rewarding.answer_format or ""))
        check_config(config)
        for check in checks:
            check(config)
        start = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        # absolute before Ray starts: another node has neither this folder as its working directory nor RUNS_DIR
        config.co_rewarding_run_dir = str(Path(config.co_rewarding_run_dir).absolute())
        config.co_rewarding.method = absolute_name(config.co_rewarding.method)
        config.trainer.experiment_name = str(config.trainer.experiment_name)  # RUN_NAME is this process's, too
        as_composed = config.copy()
        _prepare_loggers(config, start)
        _size_engine(config)
        _prepare_router(config)
        _prepare_ray(config)
        # imported after our own checks: it takes seconds, and a typing error should be reported at once
        import ray
        from verl.trainer.main_ppo import run_ppo
        from verl.trainer.ppo.reward import resolve_reward_manager_cls
        from verl.trainer.ppo.utils import need_critic, need_reference_policy
        from verl.utils.config import validate_config

        resolve_reward_manager_cls(config).check(config.co_rewarding.method)
        validate_config(config, need_reference_policy(config), need_critic(config))
        _prepare_validation(config)
        _prepare_weight_sync(config)
        OmegaConf.resolve(config.ray_kwargs)  # verl hands these to Ray with interpolations unresolved
        lock = _lock(RunDir(config.co_rewarding_run_dir))
        loggers = wandb_run.environment(RunDir(config.co_rewarding_run_dir)) if wandb_run.logs_to_wandb(config) else {}
        for line in started_as.begin(as_composed):
            say(line)
    except (AssertionError, ValueError) as error:
        _refuse(error)
    except OSError as error:  # a file or folder that cannot be looked at
        _refuse(_of_file(error))
    run = RunDir(config.co_rewarding_run_dir)
    with lock:
        leftovers.remove_what_a_killed_start_left(run)
        try:
            _record(as_composed, start)
        except OSError as error:
            _refuse(_of_file(error))
        try:
            times.done("configuration")
            with stopping.reported_in_one_line(), leftovers.removed_at_the_end(run, config, server):
                runner = stopping.TakingSigterm(_task_runner(trainer, loggers, times))
                run_ppo(config, task_runner_class=runner)
                if runner.started is not None:
                    for line in ray.get(runner.started.summary.remote()):
                        print(line, flush=True)
        except ConnectionError as error:
            if type(error) is not ConnectionError:  # of a process of the run, with its traceback
                raise
            _refuse(f"RAY_ADDRESS={config.ray_kwargs.ray_init.address}: {error}")
        except UnfitCluster as error:
            _refuse(error.cause)  # Ray's own text has the remote traceback
        except OwnFunctionError as error:  # the same during the run, which has failed
            print(f"error: {error.cause}", file=sys.stderr)
            sys.exit(1)


def _task_runner(trainer: str, environment: Mapping[str, str], times: StartTimes) -> Any:
    """A Ray actor class like verl's TaskRunnerV1 that builds our trainer and counts its steps.

    Args:
        environment: variables of its process beside those that all of a run's processes have.
        times: of what was done in this process.
    """
    import ray
    from verl.trainer.main_ppo import TaskRunnerV1

    class TaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
        def run(self, config: DictConfig) -> None:
            import ray
            from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
            from verl.utils.import_utils import load_class_from_fqn

            from co_rewarding.training.trainer import GroupRewardTrainer

            times.done("Ray")
            os.environ.update(environment)
            if not starts_own_ray(config):
                check_cluster(config, [node["Resources"] for node in ray.nodes() if node["Alive"]])
            # verl compares the mode with the string "sync" in several places, so our class takes over that name
            TRAINER_REGISTRY["sync"] = load_class_from_fqn(trainer, "trainer")
            GroupRewardTrainer.start_times = times
            super().run(config)
            self.lines = [line for line in (questions_line(self.trainer), steps_line(self.trainer)) if line]

        def summary(self) -> list[str]:
            """The last lines of a run, for the waiting process: Ray may lose what is printed here at the end."""
            return self.lines

    return ray.remote(TaskRunner)


def questions_line(trainer: Any) -> str | None:
    """Which questions were learned and which corrupted, after a run that trained; writes their table."""
    from co_rewarding.training.question_table import write_question_table

    if trainer.config.trainer.get("val_only", False):
        return None
    run = RunDir(trainer.config.co_rewarding_run_dir)
    line = write_question_table(run, trainer.global_steps - 1, trainer.reward_manager.equivalence)
    return line and f"{PROGRESS} {line}"


def steps_line(trainer: Any) -> str | None:
    """Planned and done steps.

    Raises:
        RuntimeError: they differ, so that the run's exit code is not 0.
    """
    planned, done = trainer.total_training_steps, trainer.global_steps - 1
    if trainer.config.trainer.get("val_only", False):
        return None
    if trainer.stopped_early_after is not None:
        planned = trainer.stopped_early_after
        return f"Steps: {planned} planned, {done} done, stopped early on purpose (co_rewarding.early_stop_after)."
    if done != planned:
        raise RuntimeError(f"the run ended after {done} of {planned} planned steps, {trainer.steps_done} in this start")
    return f"Steps: {planned} planned, {done} done, {trainer.steps_done} of them in this run."


def _lock(run: RunDir) -> IO[str]:
    """Lock a run's directory until closed or this process ends: two runs would overwrite each other.

    Raises:
        ValueError: another run holds it, or the directory cannot be written.
    """
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock = run.lock.open("a+")
    except OSError as error:
        raise ValueError(
            f"co_rewarding_run_dir={run.path}: cannot be written ({error.strerror}); set RUNS_DIR to a writable folder"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise ValueError(
            f"co_rewarding_run_dir={run.path}: another run writes there ({holder}); wait until it ends, or choose "
            "another RUN_NAME"
        ) from None
    except OSError as error:  # some network file systems
        print(f"{run.lock}: cannot be locked ({error.strerror}); do not start a second run in this folder", flush=True)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    return lock


def _record(config: DictConfig, start: str) -> None:
    """Record the configuration and versions of this start of the run."""
    run = RunDir(config.co_rewarding_run_dir)
    run.configuration_file(start).parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, run.configuration_file(start))
    if HydraConfig.initialized():
        OmegaConf.save(HydraConfig.get().overrides.task, run.overrides_file(start))
    provenance.record(run.path, start)
    run.questions.unlink(missing_ok=True)  # from an earlier start's end
    run.metrics.mkdir(parents=True, exist_ok=True)


def _prepare_ray(config: DictConfig) -> None:
    """Set CPUs of a private Ray and threads of its processes, where unset.

    CPUs: the reserved ones (preflight/machine.py) plus this machine's cores, so nothing waits for a place and Ray keeps
    as many processes ready as there are cores.

    Threads: Ray sets OMP_NUM_THREADS to the CPUs that a process reserves, which is 1 for the trainers
    (ray._private.utils.set_omp_num_threads_if_unset), so AdamW and other work in host memory would have one core. A
    rank gets its share of the cores. Every process of the run sees the number, vLLM too; but while the ranks compute,
    the others wait. On a cluster it is this machine's share; nodes are assumed alike.
    """
    ray_init, has = config.ray_kwargs.ray_init, cores()
    with open_dict(config):
        if OmegaConf.select(ray_init, "runtime_env.env_vars.OMP_NUM_THREADS") is None:
            threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, has // config.trainer.n_gpus_per_node))
            OmegaConf.update(ray_init, "runtime_env.env_vars.OMP_NUM_THREADS", threads, force_add=True)
    if starts_own_ray(config):
        if ray_init.num_cpus is None:
            ray_init.num_cpus = reserved_cpus(config) + has
        return
    sizes = [name for name in ("num_cpus", "num_gpus", "object_store_memory") if ray_init.get(name) is not None]
    if sizes:  # Ray refuses them; platform/cpu.yaml has some, for a private Ray
        print(f"RAY_ADDRESS={ray_init.address}: the cluster decides its own sizes; ignored: {', '.join(sizes)}")
        ray_init.update(dict.fromkeys(sizes))


def _prepare_weight_sync(config: DictConfig) -> None:
    """Private sockets between trainer and vLLM (co_rewarding.training.weight_sync)."""
    from co_rewarding.training.weight_sync import RECEIVER, TAG

    key = "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls"
    if OmegaConf.select(config, key) not in (None, RECEIVER):
        raise ValueError(f"{key}={OmegaConf.select(config, key)}: must be {RECEIVER}, which names the run's socket")
    with open_dict(config):
        OmegaConf.update(config, key, RECEIVER, force_add=True)
        OmegaConf.update(config, f"ray_kwargs.ray_init.runtime_env.env_vars.{TAG}", uuid4().hex[:12], force_add=True)


def _prepare_validation(config: DictConfig) -> None:
    """Without validation files a run never validates; verl 0.9.1 has no setting for that."""
    if config.data.val_files:
        return
    with open_dict(config):
        config.trainer.update(val_before_train=False, test_freq=-1)
        # no files are no rows (QuestionDataset); the loader's batch would be as large as these
        config.data.update(val_files=[], val_batch_size=1, validation_shuffle=False)


def _prepare_loggers(config: DictConfig, start: str) -> None:
    """Give each start of a run its own metrics file.

    verl's loggers read environment variables; these are passed to Ray with the configuration, so they also reach a
    cluster that was started elsewhere.
    """
    run = RunDir(config.co_rewarding_run_dir)
    environment = {
        # verl's file logger truncates: a resumed run must not overwrite the metrics of the first
        "VERL_FILE_LOGGER_PATH": str(run.metrics_file(start)),
        "TENSORBOARD_DIR": str(run.tensorboard),
    }
    with open_dict(config):
        for name, value in environment.items():
            OmegaConf.update(
                config, f"ray_kwargs.ray_init.runtime_env.env_vars.{name}", os.environ.get(name, value), force_add=True
            )


def _size_engine(config: DictConfig) -> None:
    """Limit vLLM's context to the longest possible sequence: its default is the model's full context, for which a small
    key-value cache (a laptop's) has no room."""
    with open_dict(config):
        if config.actor_rollout_ref.rollout.max_model_len is None:
            config.actor_rollout_ref.rollout.max_model_len = (
                config.data.max_prompt_length + config.data.max_response_length
            )


def _prepare_router(config: DictConfig) -> None:
    """Our router, unless the configuration names another or needs verl's, the only one that routes by a hash."""
    rollout = config.actor_rollout_ref.rollout
    if rollout.router_config_path is None and not rollout.full_determinism:
        rollout.router_config_path = str(router.CONFIGURATION)


def _explained(error: Exception) -> str:
    """Hydra's error on an override, with the cause; for an unknown key in our blocks, the known keys."""
    # Hydra's grammar has no letter beyond ASCII, and reads 1,2 as values for two runs
    ambiguous = re.match(r"Ambiguous value for argument '(.*)'\n", str(error), flags=re.DOTALL)
    override = ambiguous[1] if ambiguous else getattr(error, "override", None)
    if override is not None:
        key, is_pair, _ = override.partition("=")
        return f"{override}: {UNREADABLE.format(key) if is_pair else 'must be KEY=VALUE'}"
    message, cause = str(error).removeprefix("Error merging override "), error.__cause__
    if not isinstance(cause, OmegaConfBaseException):
        return message
    if not isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return f"{message}: {cause.msg.splitlines()[0]}"
    override = message.rpartition("use +")[2]  # without Hydra's advice to add the key, which does not help here
    if not issubclass(cause.object_type, ConfigBlock):
        return explained(cause, override) or message
    return f"{override}: unknown key; {cause.object_type.known_keys()}"


def _of_file(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _refuse(error: Exception | str) -> NoReturn:
    print(f"error: {run_script.named(' '.join(str(error).split()))}", file=sys.stderr)
    sys.exit(2)
