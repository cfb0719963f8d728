# SPDX-License-Identifier: Apache-2.0
"""Cost of the checks before a run: seconds of each, at a first start and at a second one with the same files.

    python benchmarks/preflight.py --train ORIGINAL.parquet --rephrased REPHRASED.parquet --val TEST.parquet \\
        --model FOLDER

For a run of Co-rewarding-I on a CPU with the paper's sizes, without training. The first start has an empty cache.
Wall-clock and processor seconds, children included; imports and composing the configuration, part of every start, are
printed separately.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), processor_seconds()
    yield
    print(f"{name:28} {time.perf_counter() - wall:7.2f} s, processor {processor_seconds() - cpu:7.2f} s", flush=True)


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "rephrased", "val", "model"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    with timed("imports and configuration"):
        from hydra import compose, initialize_config_module

        from co_rewarding.training.preflight.data import check_data, read_data
        from co_rewarding.training.preflight.machine import check_platform
        from co_rewarding.training.preflight.model import check_model
        from co_rewarding.training.preflight.outputs import check_loggers
        from co_rewarding.training.preflight.prompts import check_prompts

        with initialize_config_module("co_rewarding_i.config", version_base=None):
            config = compose(
                "co_rewarding_i",
                overrides=[
                    "platform=cpu",
                    f"data.train_files={options.train}",
                    f"data.train_aug_files={options.rephrased}",
                    f"data.val_files={options.val}",
                    f"actor_rollout_ref.model.path={options.model}",
                    "data.train_batch_size=128",
                    "actor_rollout_ref.actor.ppo_mini_batch_size=128",
                    "actor_rollout_ref.rollout.n=8",
                    "data.max_prompt_length=512",
                    "data.max_response_length=3072",
                    "trainer.total_epochs=3",
                    "trainer.save_freq=-1",
                ],
            )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for start in ("first start", "second start"):
            with timed(f"{start}, all checks"):
                with timed("  files read"):
                    files = read_data(config)
                with timed("  check_data"):
                    check_data(config, files)
                with timed("  check_model"):
                    tokenizer, vocabulary = check_model(config)
                with timed("  check_prompts"):
                    check_prompts(config, files, tokenizer, vocabulary)
                for check in (check_platform, check_loggers):
                    check(config)


if __name__ == "__main__":
    main()
