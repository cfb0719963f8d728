# SPDX-License-Identifier: Apache-2.0
"""The `co_rewarding` block: every key's type and range, no key silently ignored, and the way to Ray's workers."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.settings import Settings


def read(**block: object) -> Settings:
    return Settings.read(OmegaConf.create({"co_rewarding": {"method": "co_rewarding_I", **block}}))


def test_defaults_are_the_papers() -> None:
    assert read() == Settings("co_rewarding_I")
    assert read().min_agreement == 0.0  # paper, Eq. 8: any plurality is a label
    assert read().payout == "hard"  # Eq. 6-11
    assert read().max_label_flips == -1  # every label counts
    assert read().equivalence == "math"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_agreement", 0.0),
        ("min_agreement", 1.0),
        ("min_agreement", 1),
        ("payout", "soft"),
        ("payout", "negative"),
        ("max_label_flips", 0),
        ("equivalence", "string"),
        ("equivalence", "exact"),
        ("verify_timeout_s", 0.5),
        ("verify_workers", 4),
        ("poll_interval_s", 0.01),
    ],
)
def test_values_at_and_inside_the_bounds(key: str, value: object) -> None:
    assert getattr(read(**{key: value}), key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "co_rewarding_IV"),
        ("min_agreement", -0.1),
        ("min_agreement", 1.1),
        ("min_agreement", float("nan")),
        ("payout", "Soft"),
        ("payout", None),
        ("max_label_flips", -2),
        ("max_label_flips", 0.5),
        ("equivalence", "maths"),
        ("equivalence", None),
        ("verify_timeout_s", 0),
        ("verify_timeout_s", float("inf")),
        ("verify_workers", 0),
        ("verify_workers", 1.5),
        ("poll_interval_s", 0.0),
        ("poll_interval_s", float("nan")),
        ("watch_window", 1),
        ("early_stop_after", -1),
        # a type that is refused by OmegaConf
        ("min_agreement", "abc"),
        ("min_agreement", True),
        ("verify_workers", "abc"),
        ("verify_workers", None),
        ("seed", [1]),
        ("seed", "${oc.env:CO_REWARDING_NOT_SET}"),
    ],
)
def test_a_bad_value_is_reported_with_its_key(key: str, value: object) -> None:
    with pytest.raises(ValueError) as refused:
        read(**{key: value})
    message = str(refused.value)
    assert message.startswith(f"co_rewarding.{key}={value}")
    assert "\n" not in message


def test_an_unknown_key_is_reported_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"^co_rewarding\.min_agrement=0\.5: unknown key; known keys are .*min_agreement"
    ):
        read(min_agreement=0.5, min_agrement=0.5)


@pytest.mark.parametrize("block", [{}, {"co_rewarding": None}, {"co_rewarding": 5}])
def test_no_block_is_refused(block: dict) -> None:
    with pytest.raises(ValueError, match=r"^co_rewarding=(None|5): must be a block; known keys are "):
        Settings.read(OmegaConf.create(block))


def test_reads_a_config_node_and_cannot_be_changed() -> None:
    settings = read(min_agreement=0.25, verify_workers="${co_rewarding.watch_window}", watch_window=2)
    assert (settings.min_agreement, settings.verify_workers) == (0.25, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.min_agreement = 0.5


def test_a_typed_block_arrives_in_another_process_and_as_plain_yaml(config: DictConfig, tmp_path: Path) -> None:
    """As Ray hands a configuration to its workers, which have not imported anything of ours."""
    assert OmegaConf.get_type(config.co_rewarding) is Settings
    config.co_rewarding.seed = 7
    (tmp_path / "config.pickle").write_bytes(cloudpickle.dumps(config))
    program = """
import sys, pickle
config = pickle.load(open(sys.argv[1], "rb"))
from co_rewarding.training.settings import Settings
config.co_rewarding.poll_interval_s = 1  # may still be set
settings = Settings.read(config)
print(settings.seed, settings.poll_interval_s, settings.method)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "config.pickle")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "7 1.0 co_rewarding_I\n"
    # what a run records is read without us, and what an older run recorded is read by us
    OmegaConf.save(config, tmp_path / "config.yaml")
    recorded = OmegaConf.load(tmp_path / "config.yaml")
    assert OmegaConf.get_type(recorded.co_rewarding) is dict
    assert Settings.read(recorded) == Settings.read(config)
