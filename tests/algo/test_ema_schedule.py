# SPDX-License-Identifier: Apache-2.0
"""The teacher's decay, step by step, against the formula worked out by hand."""

import math

import pytest

from co_rewarding.algo.ema_schedule import DecaySchedule


def test_cosine_by_hand() -> None:
    # start 0.9, end 1.0, K = 4: α_k = 1.0 − 0.05 · (1 + cos(π k / 4)); cos: k=0 1, k=1 √½, k=2 0, k=3 −√½
    schedule = DecaySchedule(total_steps=4, decay_start=0.9, decay_end=1.0)
    half = math.sqrt(0.5)
    expected = [0.9, 1 - 0.05 * (1 + half), 0.95, 1 - 0.05 * (1 - half)]
    assert [schedule.decay(step) for step in range(1, 5)] == pytest.approx(expected, abs=1e-15)


def test_ends_of_the_papers_schedule_are_those_of_its_text() -> None:
    schedule = DecaySchedule(total_steps=330)
    assert schedule.decay(1) == pytest.approx(0.99, abs=1e-15)
    # one step before k = K: 1 + cos(π − π/330) = (π/330)²/2 to leading order, 4.5e-5, times 0.0099/2
    assert schedule.decay(330) == pytest.approx(0.9999, abs=3e-7)


def test_constant_when_both_ends_are_equal() -> None:
    schedule = DecaySchedule(total_steps=7, decay_start=0.995, decay_end=0.995)
    assert {schedule.decay(step) for step in range(1, 8)} == {0.995}


def test_updates_every_third_step_only() -> None:
    schedule = DecaySchedule(total_steps=7, decay_start=0.5, decay_end=0.5, update_interval=3)
    assert [schedule.decay(step) for step in range(1, 8)] == [1, 1, 0.5, 1, 1, 0.5, 1]
    assert schedule.share_of_start == 0.25


@pytest.mark.parametrize(("steps", "share"), [(330, 0.19), (50, 0.77), (20, 0.90)])
def test_share_of_the_start_with_the_published_scripts_values(steps: int, share: float) -> None:
    # To first order ln Π α = −Σ (1 − α). The cosine's mean over k = 0 … K is (0.01 + 0.00001)/2; of the two ends the
    # sum counts the first whole and the last not at all, which adds half of their difference:
    # −(K · 0.005005 + 0.005) = −1.66, −0.255, −0.105, and e to that is 0.19, 0.77, 0.90.
    schedule = DecaySchedule(total_steps=steps, decay_start=0.99, decay_end=0.99999)
    assert schedule.share_of_start == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize("interval", [1, 3])
def test_a_given_share_is_met_and_the_shape_kept(interval: int) -> None:
    schedule = DecaySchedule(total_steps=12, update_interval=interval, start_share=0.2)
    plain = DecaySchedule(total_steps=12, update_interval=interval)
    assert schedule.share_of_start == pytest.approx(0.2, rel=1e-12)
    updates = range(interval, 13, interval)
    powers = [math.log(schedule.decay(step)) / math.log(plain.decay(step)) for step in updates]
    assert powers == pytest.approx([powers[0]] * len(powers), rel=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"total_steps": 0},
        {"update_interval": 0},
        {"decay_start": -0.1},
        {"decay_end": 1.01},
        {"start_share": 0.0},
        {"start_share": 1.0},
        {"start_share": 0.5, "decay_end": 1.0},
        {"start_share": 0.5, "update_interval": 11},
    ],
)
def test_a_value_out_of_range_is_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        DecaySchedule(**({"total_steps": 10} | wrong))


def test_a_step_outside_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="step 11 is outside"):
        DecaySchedule(total_steps=10).decay(11)
