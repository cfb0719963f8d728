# SPDX-License-Identifier: Apache-2.0
import pickle
from itertools import chain

from co_rewarding.training.start_times import StartTimes


def test_each_part_is_what_passed_since_the_one_before() -> None:
    now = chain([107.25, 111.5, 140.0])
    times = StartTimes(100.0, clock=lambda: next(now))
    for part in ("configuration", "Ray", "models and vLLM"):
        times.done(part)
    # 107.25 - 100, 111.5 - 107.25, 140 - 111.5
    assert str(times) == "start: configuration 7.2 s, Ray 4.2 s, models and vLLM 28.5 s; 40.0 s in all"


def test_they_travel_to_another_process() -> None:
    times = StartTimes(100.0)
    times.done("configuration")
    assert str(pickle.loads(pickle.dumps(times))) == str(times)
