# SPDX-License-Identifier: Apache-2.0
"""The `co_rewarding:` block: every key's range, and no key that is silently ignored."""

import dataclasses

import pytest
from omegaconf import OmegaConf

from co_rewarding.training.settings import Settings


def test_defaults_are_the_papers() -> None:
    settings = Settings()
    assert settings.min_agreement == 0.0  # paper, Eq. 8: any plurality is a label
    assert settings.equivalence == "math"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_agreement", 0.0),
        ("min_agreement", 1.0),
        ("min_agreement", 1),
        ("equivalence", "string"),
        ("equivalence", "exact"),
        ("verify_timeout_s", 0.5),
        ("verify_workers", 4),
        ("poll_interval_s", 0.01),
    ],
)
def test_values_at_and_inside_the_bounds(key: str, value: object) -> None:
    assert getattr(Settings.from_mapping({key: value}), key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_agreement", -0.1),
        ("min_agreement", 1.1),
        ("min_agreement", float("nan")),
        ("equivalence", "maths"),
        ("equivalence", None),
        ("verify_timeout_s", 0),
        ("verify_timeout_s", -1.0),
        ("verify_workers", 0),
        ("verify_workers", 1.5),
        ("poll_interval_s", 0.0),
        ("poll_interval_s", float("nan")),
        # what `co_rewarding.KEY=abc` and `co_rewarding.KEY=null` give
        ("min_agreement", "abc"),
        ("min_agreement", None),
        ("verify_timeout_s", "abc"),
        ("verify_workers", "abc"),
        ("verify_workers", None),
        ("poll_interval_s", None),
    ],
)
def test_a_bad_value_is_told_with_its_key(key: str, value: object) -> None:
    with pytest.raises(ValueError) as refused:
        Settings.from_mapping({key: value})
    message = str(refused.value)
    assert f"co_rewarding.{key}" in message
    assert str(value) in message
    assert "\n" not in message


def test_an_unknown_key_is_told_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"co_rewarding\.min_agrement=0\.5: unknown key; known keys are .*min_agreement"
    ):
        Settings.from_mapping({"min_agreement": 0.5, "min_agrement": 0.5})


def test_reads_a_config_node_and_cannot_be_changed() -> None:
    settings = Settings.from_mapping(OmegaConf.create({"min_agreement": 0.25, "verify_workers": 2}))
    assert (settings.min_agreement, settings.verify_workers) == (0.25, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.min_agreement = 0.5
