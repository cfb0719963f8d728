# SPDX-License-Identifier: Apache-2.0
"""Warnings over a window of steps: every sign fires on the run that it is meant for and on no healthy one."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from co_rewarding.monitoring.alarms import SIGNALS, Alarm, CollapseMonitor, Condition, Signal

NAMES = {signal.name for signal in SIGNALS}


def run(monitor: CollapseMonitor, series: Mapping[str, Sequence[float]], first: int = 1) -> list[tuple[Alarm, ...]]:
    """Feed one value of each metric a step; the alarms of every step."""
    steps = zip(*series.values(), strict=True)
    return [monitor.observe(step, dict(zip(series, values, strict=True))) for step, values in enumerate(steps, first)]


def names(alarms: Sequence[Alarm]) -> set[str]:
    return {alarm.signal.name for alarm in alarms}


def line(start: float, end: float, steps: int = 30) -> list[float]:
    return [start + (end - start) * i / (steps - 1) for i in range(steps)]


# a run that learns: everything moves in the direction of the signs, and none is one
HEALTHY = {
    "collapse/agreement": line(0.5, 0.96),
    "collapse/answer_concentration": line(0.15, 0.2),
    "collapse/answer_entropy": line(2.5, 2.4),
    "collapse/length": line(300, 260),
    "collapse/length_limit": line(0.1, 0.0),
    "collapse/repetition": line(0.1, 0.15),
    "collapse/label_flips": line(0.3, 0.1),
    "answer/share": line(0.7, 0.99),
    "answer/accuracy": line(0.4, 0.7),
    "answer/unevaluated": line(0.1, 0.0),
    "label/accuracy": line(0.5, 0.8),
    "label/share": line(0.7, 1.0),
    "label/voters_agree": line(0.7, 0.9),
    "reward/mean": line(0.4, 0.8),
    "actor/entropy": line(0.6, 0.2),
    "training/rollout_probs_diff_mean": line(0.005, 0.008),
}


def test_a_healthy_run_raises_no_alarm() -> None:
    assert {condition.metric for signal in SIGNALS for condition in signal.conditions} == set(HEALTHY)
    monitor = CollapseMonitor(stop_after=1)
    assert [names(alarms) for alarms in run(monitor, HEALTHY)] == [set()] * 30
    assert (monitor.should_stop, monitor.may_save, monitor.good_until) == (False, True, None)


@pytest.mark.parametrize(
    ("sign", "changed"),
    [
        ("one_answer", {"collapse/answer_concentration": line(0.15, 0.9)}),
        ("fewer_answers", {"collapse/answer_entropy": line(2.5, 0.5)}),
        ("short_and_sure", {"collapse/agreement": line(0.9, 1.0), "collapse/length": line(300, 110)}),
        ("not_worked_out", {"answer/unevaluated": line(0.1, 0.6)}),
        ("length_collapse", {"collapse/length": line(300, 20)}),
        ("length_limit", {"collapse/length_limit": line(0.1, 0.9)}),
        ("repetition", {"collapse/repetition": line(0.1, 0.8)}),
        ("no_answers", {"answer/share": line(0.9, 0.1)}),
        ("entropy_rising", {"actor/entropy": line(0.6, 3.0)}),
        ("illusion", {"label/accuracy": line(0.6, 0.3)}),
        ("reward_without_accuracy", {"answer/accuracy": line(0.6, 0.3)}),
        ("labels_flip", {"collapse/label_flips": line(0.4, 0.7)}),
        ("teacher_disagrees", {"label/voters_agree": line(0.7, 0.2)}),
        ("few_labels", {"label/share": line(0.7, 0.05)}),
        ("engine_gap", {"training/rollout_probs_diff_mean": line(0.01, 0.2)}),
    ],
)
def test_every_sign_has_its_run(sign: str, changed: dict[str, list[float]]) -> None:
    alarms = run(CollapseMonitor(), HEALTHY | changed)
    expected = {sign, "short_and_sure"} if sign == "length_collapse" else {sign}  # agreement is high at HEALTHY's end
    assert set().union(*map(names, alarms)) <= expected
    assert sign in names(alarms[-1])


def test_all_signs_are_tested() -> None:
    marks = test_every_sign_has_its_run.pytestmark
    assert {case[0] for mark in marks for case in mark.args[1]} == NAMES


def test_the_message_says_what_was_seen_and_what_to_try() -> None:
    # first five 0.1, last five 0.1 0.6 0.7 0.8 0.8: mean 0.6
    monitor = CollapseMonitor()
    alarms = run(monitor, {"collapse/answer_concentration": [0.1] * 6 + [0.6, 0.7, 0.8, 0.8]})
    assert alarms[:-1] == [()] * 9  # the windows must not overlap
    (alarm,) = alarms[-1]
    assert (alarm.since, alarm.new) == (10, True)
    assert str(alarm).startswith(
        "most questions have one and the same majority answer (collapse/answer_concentration 0.6 in the last 5 steps, "
        "0.1 in the first 5). Try: a smaller learning rate"
    )
    (again,) = monitor.observe(11, {"collapse/answer_concentration": 0.9})
    assert (again.since, again.new) == (10, False)


def test_noise_is_no_sign() -> None:
    # 0.6 0.2 0.6 0.2 0.6: mean 0.44, variance (3 × 0.16² + 2 × 0.24²) / 4 = 0.048; the next five: mean 0.36, the same
    # variance. The means differ by 0.08, the noise is 2 √(2 × 0.048 / 5) = 0.28
    wave = [0.6, 0.2, 0.6, 0.2, 0.6, 0.2, 0.6, 0.2, 0.6, 0.2]
    alarms = run(CollapseMonitor(), {"reward/mean": [1 - value for value in wave], "label/accuracy": wave})
    assert alarms == [()] * 10
    # the same change without the noise is one
    steps = {"reward/mean": [0.56] * 5 + [0.64] * 5, "label/accuracy": [0.44] * 5 + [0.36] * 5}
    assert names(run(CollapseMonitor(), steps)[-1]) == {"illusion"}


def test_no_data_is_no_sign() -> None:
    monitor = CollapseMonitor()
    assert run(monitor, {"collapse/label_flips": [0.9] * 4}) == [()] * 4  # fewer than a window
    assert monitor.observe(5, {"collapse/label_flips": math.nan}) == ()
    # logged again at step 7: the fifth value, mean 0.9
    assert monitor.observe(6, {}) == ()
    assert names(monitor.observe(7, {"collapse/label_flips": 0.9})) == {"labels_flip"}
    # at a step that does not log it, it is not judged; then it has appeared anew
    assert monitor.observe(8, {}) == ()
    assert monitor.observe(9, {"collapse/label_flips": 0.9})[0].since == 9


def test_a_run_on_few_questions_does_not_start_with_an_alarm() -> None:
    # concentrated from the start, because the questions share their answer: no rise, no sign
    assert run(CollapseMonitor(), {"collapse/answer_concentration": [0.7] * 20}) == [()] * 20


def test_early_stop_keeps_the_last_good_checkpoint() -> None:
    monitor = CollapseMonitor(window=2, stop_after=3)
    # repetition: first two 0.1; recent mean 0.5 needs e.g. 0.5 0.5: at step 5
    alarms = run(monitor, {"collapse/repetition": [0.1, 0.1, 0.1, 0.5, 0.5]})
    assert [len(found) for found in alarms] == [0, 0, 0, 0, 1]
    # the window that shows it is steps 4 and 5: what was saved up to step 3 is good, and nothing is saved now
    assert (monitor.should_stop, monitor.may_save, monitor.good_until) == (False, False, 3)
    monitor.observe(6, {"collapse/repetition": 0.6})
    assert not monitor.should_stop
    monitor.observe(7, {"collapse/repetition": 0.6})
    assert (monitor.should_stop, monitor.good_until) == (True, 3)
    # it went away: saving goes on, and the count starts again
    monitor.observe(8, {"collapse/repetition": 0.0})
    assert (monitor.should_stop, monitor.may_save, monitor.good_until) == (False, True, None)


def test_without_early_stop_everything_is_saved() -> None:
    monitor = CollapseMonitor(window=2)
    assert names(run(monitor, {"collapse/repetition": [0.1] * 3 + [0.9] * 5})[-1]) == {"repetition"}
    assert (monitor.should_stop, monitor.may_save) == (False, True)


def test_ground_truth_stops_no_run() -> None:
    assert {signal.name for signal in SIGNALS if signal.needs_labels} == {"illusion", "reward_without_accuracy"}
    for metric in ("label/accuracy", "answer/accuracy/teacher", "vote/accuracy/student"):
        with pytest.raises(ValueError, match="own needs labels: it may warn but not stop"):
            Signal("own", "", "", (Condition("reward/mean", rise=0.0), Condition(metric, fall=0.1)), stops=True)
    monitor = CollapseMonitor(stop_after=1)
    alarms = run(monitor, {"reward/mean": line(0.2, 0.9), "label/accuracy": line(0.9, 0.1)})
    assert names(alarms[-1]) == {"illusion"}
    assert (monitor.should_stop, monitor.may_save) == (False, True)


def test_an_alarm_says_that_it_needs_labels() -> None:
    (illusion,) = run(CollapseMonitor(), {"reward/mean": line(0.2, 0.9), "label/accuracy": line(0.9, 0.1)})[-1]
    assert str(illusion).startswith("needs labels: the reward rises while the labels become wrong (")
    (flips,) = run(CollapseMonitor(), {"collapse/label_flips": line(0.9, 0.9)})[-1]
    assert str(flips).startswith("most questions change their label")


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped() -> None:
    series = HEALTHY | {"collapse/repetition": line(0.1, 0.8), "actor/entropy": line(0.6, 3.0)}
    whole = CollapseMonitor(stop_after=4)
    expected = run(whole, series)
    for cut in (1, 4, 13, 26):
        before, after = CollapseMonitor(stop_after=4), CollapseMonitor(stop_after=4)
        run(before, {name: values[:cut] for name, values in series.items()})
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        found = run(after, {name: values[cut:] for name, values in series.items()}, first=cut + 1)
        assert found == expected[cut:]
        assert (after.should_stop, after.good_until) == (whole.should_stop, whole.good_until)


def test_the_state_of_other_signs_still_loads() -> None:
    # a checkpoint knows a sign and a metric that are no more, and none that came later
    gone = Signal("gone", "", "", (Condition("old/metric", at_least=0.5),))
    before = CollapseMonitor(signals=(gone,))
    run(before, {"old/metric": [1.0] * 6})
    after = CollapseMonitor()
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert names(run(after, {"collapse/label_flips": [0.9] * 5}, first=7)[-1]) == {"labels_flip"}


def test_errors() -> None:
    with pytest.raises(ValueError, match="window is 1: use a whole number from 2"):
        CollapseMonitor(window=1)
    with pytest.raises(ValueError, match="stop_after is -1: use a whole number from 0"):
        CollapseMonitor(stop_after=-1)
    with pytest.raises(ValueError, match="has watch window 5, this run 8"):
        CollapseMonitor(window=8).load_state_dict(CollapseMonitor().state_dict())


def test_bounds_of_a_condition() -> None:
    # one value a step, window 2, start 1.0: the recent mean at the end decides
    def holds(condition: Condition, *last: float) -> bool:
        monitor = CollapseMonitor(window=2, signals=(Signal("test", "", "", (condition,)),))
        return bool(run(monitor, {"m": [1.0, 1.0, *last]})[-1])

    assert holds(Condition("m", at_least=3.0), 3.0, 3.0)
    assert not holds(Condition("m", at_least=3.0), 3.0, 2.9)
    assert holds(Condition("m", at_most=0.5), 0.5, 0.5)
    assert not holds(Condition("m", at_most=0.5), 0.5, 0.6)
    assert holds(Condition("m", rise=1.0), 2.1, 2.1)
    assert not holds(Condition("m", rise=1.0), 2.0, 2.0)
    assert holds(Condition("m", fall=0.5), 0.4, 0.4)
    assert not holds(Condition("m", fall=0.5), 0.5, 0.5)
    assert holds(Condition("m", times_start=2.0), 2.0, 2.0)
    assert not holds(Condition("m", times_start=2.0), 1.9, 1.9)
    assert holds(Condition("m", share_of_start=0.5), 0.5, 0.5)
    assert not holds(Condition("m", share_of_start=0.5), 0.6, 0.6)


def test_the_glossary_knows_every_sign_and_its_metrics(repo: Path) -> None:
    rows = [line.split("|")[1:] for line in (repo / "docs/METRICS.md").read_text().splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    of_sign = {name: row for row in rows for name in re.findall(r"`([^`]+)`", row[0]) if name in NAMES}
    assert of_sign.keys() == NAMES
    for signal in SIGNALS:
        row = of_sign[signal.name]
        metrics = {condition.metric for condition in signal.conditions}
        assert set(re.findall(r"`([^`]+)`", row[1])) == metrics
        assert row[2].strip() == ("yes" if signal.stops else "no")
        assert ("**[D]**" in row[0]) == signal.needs_labels
        assert metrics <= named
