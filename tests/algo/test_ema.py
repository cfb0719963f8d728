# SPDX-License-Identifier: Apache-2.0
"""The teacher's average, against float64 written out by hand."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.profiler import ProfilerActivity, profile

from co_rewarding.algo import ema
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


def test_the_ends_of_decay_are_exact_for_any_pair() -> None:
    # pairs that no update leaves behind: low larger than high, digits beyond float64's 53, a negative zero. And a
    # student so much smaller that student - teacher, and teacher + (student - teacher), are rounded in float64 too.
    high, low = torch.tensor([0.0, 1e-9, 1.0, 1e8, -0.0]), torch.tensor([1e-9, -0.5, 1e-30, 1.0, -0.0])
    teacher, student = parameters(w=torch.zeros(5)), parameters(w=torch.tensor([1e-3, 2.0, 3e-20, 1e-12, -7.0]))
    average = TeacherAverage(teacher)
    average.load_state_dict({"low": {"w": low}, "high": {}}, {"w": high})
    average.update(student, 1.0)
    for now, before in ((teacher["w"], high), (average.state_dict()["low"]["w"], low)):
        assert torch.equal(now.detach().view(torch.int32), before.view(torch.int32))
    assert average.update(student, 0.0).difference == 0.0
    assert torch.equal(teacher["w"], student["w"])
    assert not average.state_dict()["low"]["w"].any()


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


def exact_average(start: torch.Tensor, student: torch.Tensor, decay: float) -> torch.Tensor:
    return decay * start.double() + (1 - decay) * student.double()


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ema, "SLICE_ON_CPU", 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


# which of the two the test takes for memory that the device of the arithmetic cannot work on: their slices are copied
# there and back. On a machine without an accelerator "there" is the CPU too: the path is the same, the bus is not.
ELSEWHERE = {"here": "", "the student": "s", "the teacher": "t", "both": "st"}


@pytest.fixture(params=ELSEWHERE.values(), ids=ELSEWHERE)
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A function to be told the student's parameters, before an update."""

    def place(student: dict[str, torch.Tensor]) -> None:
        students = {value.data_ptr() for value in student.values()}

        def lies_on(_: torch.device, part: torch.Tensor) -> bool:
            whose = "s" if part.untyped_storage().data_ptr() in students else "t"
            return whose not in request.param

        monkeypatch.setattr(ema, "_lies_on", lies_on)

    return place


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.9999, 1.0])
@pytest.mark.parametrize("served", [torch.float32, torch.bfloat16])
def test_slices_cut_parameters_and_visit_the_device(
    served: torch.dtype, decay: float, elsewhere: Callable, small_slices: None
) -> None:
    # 7 in a slice: parameters of exactly one and two, less than one, several with a rest, none at all, no dimension
    torch.manual_seed(3)
    shapes = {"one": (7,), "two": (2, 7), "part": (3,), "rest": (5, 5), "none": (0, 4), "scalar": ()}
    start = {name: torch.randn(shape).to(served) for name, shape in shapes.items()}
    teacher, student = parameters(**start), parameters(**{name: torch.randn(shape) for name, shape in shapes.items()})
    kept = {name: value.detach().clone() for name, value in student.items()}
    elsewhere(student)
    average = TeacherAverage(teacher, device="cpu")
    exact = {name: value.double() for name, value in start.items()}
    for _ in range(3):
        distance = average.update(student, decay)
        exact = {name: exact_average(value, student[name].detach(), decay) for name, value in exact.items()}
    state = average.state_dict()
    for name in shapes:
        high = teacher[name].detach() if served == torch.float32 else state["high"][name]
        assert torch.equal(high, exact[name].float())
        assert torch.equal(teacher[name], high.to(served))
        torch.testing.assert_close(high.double() + state["low"][name].double(), exact[name], rtol=1e-14, atol=1e-16)
        assert torch.equal(student[name], kept[name])
    apart = sum(float((kept[name].double() - exact[name]).square().sum()) for name in shapes)
    assert distance.difference == pytest.approx(apart, rel=1e-12, abs=1e-25)
    assert distance.student == pytest.approx(sum(float(v.double().square().sum()) for v in kept.values()), rel=1e-14)


def test_the_distance_of_a_student_that_hardly_moved() -> None:
    # apart by 1e-9, half the spacing of float32 near 0.02: the distance is to high + low, not to what serves
    torch.manual_seed(6)
    start = 0.02 + 0.01 * torch.rand(5000)
    teacher, student = parameters(w=start), parameters(w=start)
    average = TeacherAverage(teacher)
    with torch.no_grad():
        student["w"] += 2e-9 * torch.randint(-1, 2, (5000,))
    for _ in range(3):
        distance = average.update(student, 0.8)
    apart = student["w"].detach().double() - exactly(average, teacher, "w")
    assert distance.difference == pytest.approx(float(apart.square().sum()), rel=1e-6, abs=0.0)
    served = student["w"].detach().double() - teacher["w"].detach().double()
    assert float(served.square().sum()) != pytest.approx(distance.difference, rel=0.1, abs=0.0)


def largest_allocation(call: Callable[[], object]) -> int:
    """Bytes of the largest piece of memory that torch hands out during the call, inside its operations too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        call()
    raw = measured.profiler.kineto_results.events()  # every piece; `events()` has what an operation kept in the end
    return max(event.nbytes() for event in raw if event.name() == "[memory]")


@pytest.mark.parametrize("served", [torch.float32, torch.bfloat16])
def test_nothing_as_large_as_a_parameter_is_allocated(
    served: torch.dtype, elsewhere: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1000
    monkeypatch.setattr(ema, "SLICE_ON_CPU", size)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    teacher, student = parameters(w=torch.zeros(50, size).to(served)), parameters(w=torch.ones(50, size))
    elsewhere(student)
    average = TeacherAverage(teacher, device="cpu")
    # a buffer of float64; the parameter is 25 times that even in float32
    assert largest_allocation(lambda: average.update(student, 0.5)) == 8 * size
    # what the measurement sees of a copy, and of one that torch makes for itself, to convert, and drops
    assert largest_allocation(lambda: student["w"].double()) == 8 * 50 * size
    double = torch.zeros(50, size, dtype=torch.float64)
    assert largest_allocation(lambda: double.add_(student["w"].detach())) == 8 * 50 * size


def test_low_may_be_larger_than_high() -> None:
    # as a pair that another program wrote, or a weight of 0. float64 does not ask which is larger.
    high, low = torch.tensor([0.0, 1e-9, -1.0, 0.0]), torch.tensor([1e-9, -0.5, 1.0 + 2**-23, 0.0])
    teacher, student = parameters(w=torch.zeros(4)), parameters(w=torch.tensor([1e-3, 2.0, 3.0, 1e-20]))
    average = TeacherAverage(teacher)
    average.load_state_dict({"low": {"w": low}, "high": {}}, {"w": high})
    assert torch.equal(teacher["w"], high)
    assert torch.equal(average.state_dict()["low"]["w"], low)
    average.update(student, 0.99)
    exact = exact_average(high.double() + low.double(), student["w"].detach(), 0.99)
    torch.testing.assert_close(exactly(average, teacher, "w"), exact, rtol=1e-14, atol=0.0)
    assert torch.equal(teacher["w"], exact.float())


def test_denormals_keep_what_float32_has() -> None:
    # 2^-149 is the smallest step of float32; at 1e-40 it is all that low can hold
    teacher, student = parameters(w=torch.tensor([1e-40, 0.0])), parameters(w=torch.tensor([3e-40, 1e-44]))
    average = TeacherAverage(teacher)
    exact = exact_average(teacher["w"].detach(), student["w"].detach(), 0.5)
    average.update(student, 0.5)
    torch.testing.assert_close(exactly(average, teacher, "w"), exact, rtol=0.0, atol=2.0**-149)
    assert teacher["w"][0] > 1e-40


@pytest.mark.parametrize("broken", [math.inf, -math.inf, math.nan])
def test_a_broken_weight_breaks_itself_alone_and_the_distance(broken: float) -> None:
    teacher, student = parameters(w=torch.zeros(3)), parameters(w=torch.tensor([1.0, broken, 2.0]))
    average = TeacherAverage(teacher)
    distance = average.update(student, 0.5)
    assert teacher["w"][[0, 2]].tolist() == [0.5, 1.0]
    assert not teacher["w"].isfinite()[1]
    assert not math.isfinite(distance.difference)
    with torch.no_grad():
        student["w"][1] = 1.0
    assert math.isnan(average.update(student, 0.5).difference)  # for good


def test_a_parameter_that_is_not_contiguous_is_refused() -> None:
    odd = torch.ones(2, 3).T
    with pytest.raises(ValueError, match="parameter w: the teacher does not have it contiguous"):
        TeacherAverage({"w": odd})
    teacher = parameters(w=torch.zeros(3, 2))
    with pytest.raises(ValueError, match="parameter w: the student does not have it contiguous"):
        TeacherAverage(teacher).update({"w": odd}, 0.5)
    assert not teacher["w"].any()


def test_where_the_arithmetic_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(device: torch.device | None) -> Callable:
        return lambda check_available: device

    monkeypatch.setattr(torch.accelerator, "current_accelerator", found(None))
    assert ema._device_of_arithmetic(None) == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", found(torch.device("cuda")))
    assert ema._device_of_arithmetic(None) == torch.device("cuda")
    assert ema._device_of_arithmetic("cpu") == torch.device("cpu")  # a run that was told to leave the GPU alone


def test_host_memory_is_pinned_for_an_accelerator_alone() -> None:
    pinned = [(p, d) for p in ("cpu", "cuda") for d in ("cpu", "cuda") if ema._to_pin(torch.device(p), torch.device(d))]
    assert pinned == [("cpu", "cuda")]


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("policy", [OffloadPolicy(), CPUOffloadPolicy(pin_memory=False)], ids=["plain", "offloaded"])
def test_fsdp2_computes_with_the_moved_teacher(policy: OffloadPolicy, one_process: None, small_slices: None) -> None:
    """As the worker does it: the average starts before the first forward pass, and the pass after an update, once the
    root has let go of the weights it gathered, is that of the plain model with the averaged weights.
    """

    def network(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))

    def sharded(seed: int) -> nn.Module:
        model = network(seed)
        mesh = init_device_mesh("cpu", (1,))
        for part in (*model, model):
            fully_shard(part, mesh=mesh, offload_policy=policy)
        return model

    teacher, student, x = sharded(0), sharded(1), torch.randn(4, 5)
    average = TeacherAverage(dict(teacher.named_parameters()), device="cpu")
    plain, exact = network(0), {name: value.detach().double() for name, value in network(0).named_parameters()}
    for _ in range(2):
        with torch.no_grad():
            teacher(x)
        average.update(dict(student.named_parameters()), 0.7)
        for part in teacher.modules():
            part.reshard() if isinstance(part, FSDPModule) else None
        for name, value in network(1).named_parameters():
            exact[name] = exact_average(exact[name], value.detach(), 0.7)
        plain.load_state_dict({name: value.float() for name, value in exact.items()})
        with torch.no_grad():
            assert torch.equal(teacher(x), plain(x))
        teacher.reshard()


def test_the_average_of_factors_against_that_of_their_product() -> None:
    """Σ w_i B_i A_i − b a = Σ w_i (B_i − b)(A_i − a), the module's formula, along a walk of 20 students."""
    random = torch.Generator().manual_seed(0)
    rows, rank, columns, decays = 6, 2, 5, [0.8 + 0.01 * step for step in range(20)]
    students = [{"b": torch.zeros(rows, rank).double(), "a": torch.randn(rank, columns, generator=random).double()}]
    for _ in decays:
        students.append({n: w + 0.1 * torch.randn(w.shape, generator=random) for n, w in students[-1].items()})
    teacher = {name: weight.float() for name, weight in students[0].items()}
    average = TeacherAverage(teacher)
    product, weights = students[0]["b"] @ students[0]["a"], [1.0]
    for student, decay in zip(students[1:], decays, strict=True):
        average.update({name: weight.float() for name, weight in student.items()}, decay)
        product = decay * product + (1 - decay) * student["b"] @ student["a"]
        weights = [*(decay * weight for weight in weights), 1 - decay]
    assert sum(weights) == pytest.approx(1)
    b, a = (teacher[name].double() for name in ("b", "a"))
    spread = sum(w * (s["b"] - b) @ (s["a"] - a) for w, s in zip(weights, students, strict=True))
    assert torch.allclose(product - b @ a, spread, atol=1e-6)
    assert spread.norm() > 0.01  # these students walk far
