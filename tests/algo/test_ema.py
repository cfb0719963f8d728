# SPDX-License-Identifier: Apache-2.0
"""The teacher's average, against float64 written out by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from co_rewarding.algo.ema import Distance, TeacherAverage
from co_rewarding.algo.ema_schedule import DecaySchedule


def parameters(**values: torch.Tensor) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(value.clone()) for name, value in values.items()}


def exactly(average: TeacherAverage, teacher: dict, name: str) -> torch.Tensor:
    """The average of a teacher that serves in float32: what serves, and what was rounded off."""
    return teacher[name].detach().double() + average.state_dict()["low"][name].double()


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
    monkeypatch.setattr("co_rewarding.algo.ema.CHUNK_BYTES", 8 * 25)  # two of them at a time
    second = TeacherAverage(pieces).update(student, 0.9)
    assert all(torch.equal(whole[name], pieces[name]) for name in start)
    assert second.difference == pytest.approx(first.difference)
