# SPDX-License-Identifier: Apache-2.0
"""The teacher's decay, step by step, against the formula worked out by hand."""

import math

import numpy as np
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
    assert schedule.share_of_start == 0.25  # both meet a student that has moved, of steps 3 and 6


def composed(schedule: DecaySchedule, updates_of_nothing: int = 0) -> np.ndarray:
    """The last teacher of a run in float64 as a mixture of the students θ_0 … θ_K: their shares.

    Made up so that the shares can be read off: each student is a direction of its own. The first `updates_of_nothing`
    updates of the student, at learning rate 0, leave it θ_0.
    """
    students = np.eye(schedule.total_steps + 1)
    students[1 : updates_of_nothing + 1] = students[0]
    teacher = students[0]
    for step in range(1, schedule.total_steps + 1):
        decay = schedule.decay(step)
        teacher = decay * teacher + (1 - decay) * students[step - 1]  # the student that the step begins with
    return teacher


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("updates_of_nothing", [0, 1])
@pytest.mark.parametrize("start_share", [None, 0.1])
@pytest.mark.parametrize("steps", [4, 7, 32])
def test_the_share_is_what_the_averages_leave_of_the_start(
    steps: int, start_share: float | None, updates_of_nothing: int, interval: int
) -> None:
    schedule = DecaySchedule(
        steps, update_interval=interval, start_share=start_share, unmoved_steps=1 + updates_of_nothing
    )
    left = composed(schedule, updates_of_nothing)
    assert left[0] == pytest.approx(schedule.share_of_start, rel=1e-12) and left.sum() == pytest.approx(1)
    if start_share is not None:
        assert left[0] == pytest.approx(0.1, rel=1e-12)


def test_four_steps_that_are_to_leave_a_tenth() -> None:
    # The cosine from 0.99 to 0.9999 over K = 4: 0.99, 0.99145, 0.99495, 0.99845 (± 0.00495 · √½ around the middle). Of
    # the last three ln is −0.008587, −0.005063, −0.001551, together −0.015202; ln 0.1 = −2.302585 is 151.5 times that.
    # So the α are e to −0.01005034 · 151.5, −1.3007, −0.7669 and −0.2349, and the last three multiply to a tenth.
    schedule = DecaySchedule(total_steps=4, start_share=0.1)
    assert [schedule.decay(step) for step in (1, 2, 3, 4)] == pytest.approx([0.2182, 0.2723, 0.4645, 0.7906], abs=2e-4)
    # shares of θ_0 … θ_3: Π α; (1 − α_2) α_3 α_4; (1 − α_3) α_4; 1 − α_4, where θ_k meets the teacher in step k + 1
    assert composed(schedule)[:4] == pytest.approx([0.1, 0.2672, 0.4234, 0.2094], abs=2e-4)
    # with the first update counted the product of all four is a tenth, and a quarter of the start is left
    counted = math.log(0.1) / math.log(0.99 * 0.99145 * 0.99495 * 0.99845)  # 91.18
    assert (0.99145 * 0.99495 * 0.99845) ** counted == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(("steps", "share"), [(330, 0.19), (50, 0.78), (20, 0.91)])
def test_share_of_the_start_with_the_published_scripts_values(steps: int, share: float) -> None:
    # To first order ln Π α = −Σ (1 − α). The cosine's mean over k = 0 … K is (0.01 + 0.00001)/2; of the two ends, of
    # which the whole sum has the first and not the last, the first is that of the empty update:
    # −(K · 0.005005 + 0.005 − 0.01) = −1.647, −0.245, −0.095, and e to that is 0.193, 0.783, 0.909.
    schedule = DecaySchedule(total_steps=steps, decay_start=0.99, decay_end=0.99999)
    assert schedule.share_of_start == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize("interval", [1, 3])
def test_a_given_share_is_met_and_the_shape_kept(interval: int) -> None:
    schedule = DecaySchedule(total_steps=12, update_interval=interval, start_share=0.2)
    plain = DecaySchedule(total_steps=12, update_interval=interval)
    assert schedule.share_of_start == pytest.approx(0.2, rel=1e-12)
    updates = range(interval, 13, interval)  # the empty one, too, has the shape
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
        {"start_share": 0.5, "total_steps": 1},  # no student has moved
        {"start_share": 0.5, "total_steps": 2, "unmoved_steps": 2},
        {"unmoved_steps": 0},
    ],
)
def test_a_value_out_of_range_is_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        DecaySchedule(**({"total_steps": 10} | wrong))


def test_a_step_outside_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="step 11 is outside"):
        DecaySchedule(total_steps=10).decay(11)
