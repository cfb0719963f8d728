# SPDX-License-Identifier: Apache-2.0
"""From questions to recorded generations, with an engine that answers by a script."""

from pathlib import Path

import pytest

from co_rewarding.storage.journal import Journal, JournalError
from co_rewarding.storage.rows import make_row, write_rows
from co_rewarding.tools.evaluation.generate import Generation, generate, missing, of_set, record_key
from co_rewarding.tools.evaluation.tasks import QuestionSet, read_questions
from co_rewarding.tools.generation.engine import Completion, Request, Sampling

SETTINGS = {"temperature": 0.8, "model": "files 12"}


class Scripted:
    """Answers with its script, one request at a time; `asked` are those that it got."""

    model = "scripted"

    def __init__(self, script=lambda request: Completion(request.key, r"\boxed{1}", tokens=3)) -> None:
        self.script, self.asked, self.answered = script, [], 0

    def submit(self, request: Request) -> None:
        self.asked.append(request)

    def collect(self) -> list[Completion]:
        taken = self.asked[self.answered : self.answered + 1]
        self.answered += len(taken)
        return [self.script(request) for request in taken]

    def close(self) -> None: ...


@pytest.fixture
def asked(tmp_path: Path) -> QuestionSet:
    write_rows([make_row("toy", f"{i} + 1?", str(i + 1), i, "test") for i in range(3)], tmp_path / "data.parquet")
    return read_questions("toy", tmp_path / "data.parquet", samples=2)


def run(path: Path, asked: QuestionSet, engine: Scripted, sampling: Sampling | None = None, seed: int = 0) -> list:
    with Journal(path, SETTINGS, record_key) as journal:
        journals = {"toy": journal}
        generate(engine, missing([asked], journals), journals, sampling or Sampling(), seed)
        return of_set(journal, asked)


def test_every_response_is_recorded_once_and_found_again(tmp_path: Path, asked: QuestionSet) -> None:
    found = run(tmp_path / "j", asked, Scripted())
    assert sorted((g.index, g.sample) for g in found) == [(i, k) for i in range(3) for k in range(2)]
    assert found[0] == Generation(0, 0, "0 + 1?", "1", r"\boxed{1}", 3, "stop")
    assert run(tmp_path / "j", asked, again := Scripted()) == found and again.asked == []
    # a line that is lost is asked for again, and nothing else
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join(lines[:-1]) + lines[-1][:-9])
    assert len(run(tmp_path / "j", asked, once := Scripted())) == 6 and len(once.asked) == 1


def test_files_of_earlier_versions_are_read(tmp_path: Path, asked: QuestionSet) -> None:
    (tmp_path / "j").write_text(
        '{"kind": "header", "version": 1, "settings": {"temperature": 0.8, "model": "files 12"}}\n'
        '{"index": 0, "sample": 1, "question": "q", "ground_truth": "1", "response": "r", "tokens": 5, '
        '"finish": "length"}\n'
    )
    found = run(tmp_path / "j", asked, engine := Scripted())
    assert len(engine.asked) == 5 and Generation(0, 1, "q", "1", "r", 5, "length") in found


def test_what_a_completion_says_is_kept(tmp_path: Path, asked: QuestionSet) -> None:
    said = {
        (0, 0): {"text": "cut", "reached_limit": True},
        (0, 1): {"failure": "prompt_too_long"},
        (1, 0): {"failure": "refused"},
        (1, 1): {"failure": "server_error"},  # not recorded: the same command asks again
    }

    def script(request: Request) -> Completion:
        (_, question, sample) = request.key
        return Completion(request.key, **said.get((question.index, sample), {"text": "x"}))

    found = {
        (g.index, g.sample): (g.response, g.tokens, g.finish) for g in run(tmp_path / "j", asked, Scripted(script))
    }
    assert found[0, 0] == ("cut", None, "length")
    assert (found[0, 1], found[1, 0]) == (("", 0, "prompt_too_long"), ("", 0, "refused"))
    assert (1, 1) not in found and len(found) == 5


def test_each_response_has_a_seed_of_its_own_and_greedy_ones_none(tmp_path: Path, asked: QuestionSet) -> None:
    engines = [Scripted(), Scripted(), Scripted()]
    for name, engine, seed in zip("abc", engines, (0, 0, 1), strict=True):
        run(tmp_path / name, asked, engine, seed=seed)
    first, same, other = ([request.seed for request in engine.asked] for engine in engines)
    assert len(set(first)) == 6 and same == first and not set(first) & set(other)
    run(tmp_path / "d", asked, greedy := Scripted(), Sampling(temperature=0))
    assert {request.seed for request in greedy.asked} == {None}


def test_lighteval_asks_in_its_own_way(tmp_path: Path, asked: QuestionSet) -> None:
    as_gsm8k = read_questions("gsm8k_lighteval", asked.path, samples=None)
    with Journal(tmp_path / "j", SETTINGS, record_key) as journal:
        journals = {"gsm8k_lighteval": journal}
        generate(engine := Scripted(), missing([as_gsm8k], journals), journals, Sampling(max_tokens=3072), 0)
    assert engine.asked[0].messages == [{"role": "user", "content": "Question: 0 + 1?\nAnswer:"}]
    # lighteval uses its task's stop "Question:" only where there is no chat template
    assert engine.asked[0].sampling == Sampling(max_tokens=256)
    assert as_gsm8k.content_sha256 == asked.content_sha256  # of the file


@pytest.mark.parametrize("line", [b"{broken\n", b"[1]\n", b'{"index": 1}\n', b"\xff\n"])
def test_damage_is_reported_with_its_line(tmp_path: Path, asked: QuestionSet, line: bytes) -> None:
    run(tmp_path / "toy.jsonl", asked, Scripted())
    whole = (tmp_path / "toy.jsonl").read_bytes()
    (tmp_path / "toy.jsonl").write_bytes(whole + line)
    with pytest.raises(JournalError, match=r"toy.jsonl, line 8: not a record of this tool; .*--restart"):
        Journal(tmp_path / "toy.jsonl", SETTINGS, record_key)
