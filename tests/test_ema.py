# SPDX-License-Identifier: Apache-2.0
"""The teacher's schedule and average, against float64 written out by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from co_rewarding.ema import DecaySchedule, Distance, TeacherAverage


def parameters(**values: torch.Tensor) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(value.clone()) for name, value in values.items()}


def exactly(average: TeacherAverage, teacher: dict, name: str) -> torch.Tensor:
    """The average of a teacher that serves in float32: what serves, and what was rounded off."""
    return teacher[name].detach().double() + average.state_dict()["low"][name].double()


# --- schedule


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


# --- average


def test_one_update_by_hand() -> None:
    # 0.75 · 4 + 0.25 · 8 = 5;  0.75 · (−2) + 0.25 · 2 = −1. All are exact in float32.
    teacher = parameters(w=torch.tensor([4.0, -2.0]))
    student = parameters(w=torch.tensor([8.0, 2.0]))
    distance = TeacherAverage(teacher).update(student, decay=0.75)
    assert teacher["w"].tolist() == [5.0, -1.0]
    # student − teacher = (3, 3): 18; ‖student‖² = 64 + 4
    assert distance == Distance(difference=pytest.approx(18.0), student=pytest.approx(68.0))
    assert student["w"].tolist() == [8.0, 2.0]


def test_decay_one_changes_no_bit_and_tells_the_distance() -> None:
    teacher, student = parameters(w=torch.randn(100)), parameters(w=torch.randn(100))
    before = teacher["w"].detach().clone()
    distance = TeacherAverage(teacher).update(student, decay=1.0)
    assert torch.equal(teacher["w"], before)
    assert distance.difference == pytest.approx(float((student["w"].detach() - before).double().pow(2).sum()), rel=1e-5)


def test_decay_zero_copies_the_student() -> None:
    teacher, student = parameters(w=torch.randn(100)), parameters(w=torch.randn(100))
    distance = TeacherAverage(teacher).update(student, decay=0.0)
    assert torch.equal(teacher["w"], student["w"])
    assert distance.difference == 0.0


def test_relative_distance_adds_up_over_shards() -> None:
    # (9 + 16) / (60 + 40) = 1/4, root 1/2
    assert Distance.relative([Distance(9.0, 60.0), Distance(16.0, 40.0)]) == 0.5
    assert Distance.relative([Distance(0.0, 0.0)]) == 0.0


def plain_in_place(teacher: torch.Tensor, student: torch.Tensor, decay: float) -> None:
    """What is usually written: the update in the dtype of the weights."""
    teacher.mul_(decay).add_(student.to(teacher.dtype), alpha=1.0 - decay)


def lerp_in_place(teacher: torch.Tensor, student: torch.Tensor, decay: float) -> None:
    teacher.lerp_(student.to(teacher.dtype), 1.0 - decay)


@pytest.mark.parametrize("path", ["drift", "walk"])
@pytest.mark.parametrize("change", [1e-6, 1e-5])
def test_accumulated_movement_at_realistic_sizes(change: float, path: str) -> None:
    """330 steps of the paper's schedule, weights of about 0.02, a student that moves by `change` a step: always the
    same way, or each weight up or down by chance. The second keeps teacher and student close, where rounding tells.

    The error is that of the movement: ‖moved − moved in float64‖ / ‖moved in float64‖. Beside ours: the update written
    in place as t·α + s·(1 − α) and as t + (s − t)·(1 − α), in float32, and the first in bfloat16.
    """
    torch.manual_seed(0)
    schedule = DecaySchedule(total_steps=330)
    start = 0.02 * torch.randn(20_000)
    direction = torch.randn(20_000).sign()
    student, teacher = parameters(w=start), parameters(w=start)
    average = TeacherAverage(teacher)
    exact = start.double()
    scaled, lerped, half = start.clone(), start.clone(), start.bfloat16()
    for step in range(1, 331):
        decay = schedule.decay(step)
        new = student["w"].detach()
        exact = decay * exact + (1 - decay) * new.double()
        average.update(student, decay)
        scaled.mul_(decay).add_(new, alpha=1 - decay)
        lerped.lerp_(new, 1 - decay)
        half.mul_(decay).add_(new.bfloat16(), alpha=1 - decay)
        with torch.no_grad():
            student["w"] += change * (direction if path == "drift" else torch.randn(20_000).sign())

    def error(value: torch.Tensor, origin: torch.Tensor = start) -> float:
        moved = exact - start.double()
        return float((value.double() - origin.double() - moved).norm() / moved.norm())

    figures = {
        "ours": error(exactly(average, teacher, "w")),
        "float32, scaled": error(scaled),
        "float32, lerp": error(lerped),
        "bfloat16": error(half, origin=start.bfloat16()),
    }
    print(f"{path}, {change:g} a step:", {name: f"{figure:.2g}" for name, figure in figures.items()})
    assert figures["ours"] < 1e-6  # the goal is 1e-3
    assert figures["float32, scaled"] > 1e4 * figures["ours"]
    assert figures["bfloat16"] > 0.2
    assert torch.equal(teacher["w"], exact.float())  # what serves is the average, rounded once


@pytest.mark.parametrize("apart", [1e-4, 1e-5, 1e-6])
def test_late_updates_are_where_float32_in_place_loses_the_movement(apart: float) -> None:
    # weights of 0.02 have a spacing of 2^-29 = 1.9e-9 in float32; an update of 1e-4 x 1e-5 = 1e-9 is about half of it
    torch.manual_seed(5)
    start = 0.02 + 0.01 * torch.rand(20_000)
    student, teacher = parameters(w=start + apart), parameters(w=start)
    average, scaled, exact = TeacherAverage(teacher), start.clone(), start.double()
    for _ in range(10):
        average.update(student, 0.9999)
        scaled.mul_(0.9999).add_(student["w"].detach(), alpha=1e-4)
        exact = 0.9999 * exact + 1e-4 * student["w"].detach().double()
    moved = float((exact - start.double()).norm())
    lost = float((scaled.double() - exact).norm()) / moved
    print(f"apart by {apart:g}: float32 in place is off by {lost:.0%} of the movement")
    assert float((exactly(average, teacher, "w") - exact).norm()) / moved < 1e-6
    assert lost > {1e-4: 0.02, 1e-5: 0.2, 1e-6: 0.5}[apart]


def test_a_bfloat16_teacher_follows_the_exact_average() -> None:
    torch.manual_seed(4)
    start = (0.02 * torch.randn(2000)).bfloat16()
    student, teacher = parameters(w=start.float()), parameters(w=start)
    average = TeacherAverage(teacher)
    exact = start.double()
    for _ in range(100):
        with torch.no_grad():
            student["w"] += 1e-5
        average.update(student, 0.99)
        exact = 0.99 * exact + 0.01 * student["w"].detach().double()
    # bfloat16 in place would not have moved: 1e-7 an update against a spacing of about 1e-4 near 0.02
    assert torch.equal(teacher["w"], exact.float().bfloat16())
    assert not torch.equal(teacher["w"], start)


def test_relative_error_of_the_weights_after_many_steps() -> None:
    torch.manual_seed(1)
    student = parameters(w=torch.randn(1000), tiny=1e-20 * torch.randn(1000), zero=torch.zeros(3))
    teacher = parameters(**{name: value.detach() for name, value in student.items()})
    average = TeacherAverage(teacher)
    exact = {name: value.detach().double() for name, value in student.items()}
    for _ in range(50):
        with torch.no_grad():
            for name in ("w", "tiny"):
                student[name] += 0.01 * student[name] * torch.randn(1000)
        average.update(student, 0.9)
        exact = {name: 0.9 * value + 0.1 * student[name].detach().double() for name, value in exact.items()}
    for name in ("w", "tiny"):
        assert float((exactly(average, teacher, name) - exact[name]).norm() / exact[name].norm()) < 1e-13
    assert teacher["zero"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("served", [torch.float32, torch.bfloat16])
def test_state_goes_through_a_file_bit_for_bit(tmp_path: Path, served: torch.dtype) -> None:
    torch.manual_seed(2)
    student = parameters(w=torch.randn(50))
    first = {"w": nn.Parameter(torch.randn(50).to(served))}
    went_on = TeacherAverage(first)
    went_on.update(student, 0.999)
    # as a module's state_dict, with more in it than parameters
    torch.save((went_on.state_dict(), first | {"buffer": torch.ones(1)}), tmp_path / "average.pt")
    second = {"w": nn.Parameter(torch.zeros(50).to(served))}
    resumed = TeacherAverage(second)
    resumed.load_state_dict(*torch.load(tmp_path / "average.pt", weights_only=True))
    for average in (went_on, resumed):
        average.update(student, 0.999)
    assert torch.equal(first["w"], second["w"])
    for part, values in went_on.state_dict().items():
        assert values.keys() == resumed.state_dict()[part].keys()
        assert all(torch.equal(value, resumed.state_dict()[part][name]) for name, value in values.items())


def test_a_saved_teacher_of_another_shape_changes_nothing() -> None:
    teacher = parameters(w=torch.ones(3))
    other = TeacherAverage(saved := parameters(w=torch.zeros(4)))
    with pytest.raises(ValueError, match="parameter w: the saved teacher has shape"):
        TeacherAverage(teacher).load_state_dict(other.state_dict(), saved)
    assert teacher["w"].tolist() == [1.0, 1.0, 1.0]


def test_tied_weights_move_once() -> None:
    class Tied(nn.Module):
        def __init__(self, value: float):
            super().__init__()
            self.embed, self.head = nn.Embedding(2, 2), nn.Linear(2, 2, bias=False)
            self.head.weight = self.embed.weight
            nn.init.constant_(self.embed.weight, value)

    teacher, student = Tied(0.0), Tied(1.0)
    TeacherAverage(dict(teacher.named_parameters())).update(dict(student.named_parameters()), decay=0.5)
    # moved twice, the weights would be 0.75
    assert teacher.head.weight.tolist() == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"a": torch.zeros(2)}, "1 missing"),
        ({"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2)}, r"1 too\s+many \['c'\]"),
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, "parameter b: the student has shape"),
    ],
)
def test_parameters_that_do_not_match_change_nothing(student: dict, message: str) -> None:
    teacher = parameters(a=torch.ones(2), b=torch.ones(2))
    with pytest.raises(ValueError, match=message):
        TeacherAverage(teacher).update(student, decay=0.5)
    assert teacher["a"].tolist() == [1.0, 1.0]


def test_small_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    start = {f"w{i}": torch.randn(10 + i) for i in range(5)}
    student = parameters(**{name: torch.randn_like(value) for name, value in start.items()})
    whole, pieces = parameters(**start), parameters(**start)
    first = TeacherAverage(whole).update(student, 0.9)
    monkeypatch.setattr("co_rewarding.ema.CHUNK_BYTES", 8 * 25)  # two of them at a time
    second = TeacherAverage(pieces).update(student, 0.9)
    assert all(torch.equal(whole[name], pieces[name]) for name in start)
    assert second.difference == pytest.approx(first.difference)
