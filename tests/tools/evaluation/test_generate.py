# SPDX-License-Identifier: Apache-2.0
"""The file of generations: what a kill, other settings or damage do to it."""

from pathlib import Path

import pytest

from co_rewarding.tools.evaluation.generate import Generation, Generations

SETTINGS = {"temperature": 0.8, "model": "files 12"}


def generation(index: int, sample: int = 0, response: str = "so \\boxed{4}") -> Generation:
    return Generation(index, sample, "2 + 2?", "4", response, 7, "stop")


def written(path: Path, *items: Generation) -> Path:
    with Generations(path, SETTINGS) as records:
        for item in items:
            records.add(item)
    return path


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    half_a_pair = "\ud83d \\boxed{ü}"  # a response can decode to half a surrogate pair
    path = written(tmp_path / "sub/toy.jsonl", generation(3), generation(0, 1, half_a_pair))
    with Generations(path, SETTINGS) as records:
        assert list(records.done) == [(3, 0), (0, 1)]
        assert records.done[0, 1] == generation(0, 1, half_a_pair)


def test_a_cut_off_last_line_is_lost_and_the_rest_is_not(tmp_path: Path) -> None:
    path = written(tmp_path / "toy.jsonl", generation(0), generation(1))
    path.write_bytes(path.read_bytes()[:-9])
    with Generations(path, SETTINGS) as records:
        assert list(records.done) == [(0, 0)]
        records.add(generation(1))
    with Generations(path, SETTINGS) as records:
        assert list(records.done) == [(0, 0), (1, 0)]


def test_a_cut_off_header_is_written_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "toy.jsonl")
    path.write_bytes(path.read_bytes()[:-3])
    written(path, generation(5))
    with Generations(path, SETTINGS) as records:
        assert list(records.done) == [(5, 0)]


def test_the_first_of_two_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "toy.jsonl", generation(0), generation(0, response="another"))
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[-1].replace(b"so", b"no"))
    with Generations(path, SETTINGS) as records:
        assert records.done == {(0, 0): generation(0)}


@pytest.mark.parametrize("line", [b"{broken\n", b"[1]\n", b'{"index": 1}\n', b"\xff\n"])
def test_damage_is_told_with_its_line(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path / "toy.jsonl", generation(0))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match=r"toy.jsonl, line 3: not a line of this tool; .*--restart"):
        Generations(path, SETTINGS)


def test_other_settings_are_refused_with_both_values(tmp_path: Path) -> None:
    path = written(tmp_path / "toy.jsonl", generation(0))
    with pytest.raises(ValueError, match=r"made with temperature=0.8, now it is 0.0: .*--output_dir.*--restart"):
        Generations(path, SETTINGS | {"temperature": 0.0})
    with Generations(path, SETTINGS | {"temperature": 0.0}, restart=True) as records:
        assert not records.done


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.jsonl"
    with Generations(path, SETTINGS), pytest.raises(ValueError, match="in use by another evaluation"):
        Generations(path, SETTINGS)
    written(path)
