# SPDX-License-Identifier: Apache-2.0
"""The journal: what is in it survives, once, and what does not fit is refused."""

import errno
import json
import resource
import signal

import pytest

from co_rewarding.storage.journal import Journal, JournalError

SETTINGS = {"model": "m", "temperature": 0.7}


def key(record: dict) -> tuple:
    if record["kind"] == "attempt":
        return ("attempt", record["row"], record["attempt"])
    return ("answer", record["digest"], record["sample"])


def attempt(row: int, number: int = 0, rewrite: str = "y") -> dict:
    return {"kind": "attempt", "row": row, "attempt": number, "rewrite": rewrite}


def test_records_are_found_again(tmp_path) -> None:
    path = tmp_path / "j"
    with Journal(path, SETTINGS, key) as journal:
        assert journal.append(attempt(1, rewrite="a\u2028\ud800\nb"))
        assert not journal.append(attempt(1, rewrite="other"))  # the first one wins
        assert journal.append(attempt(1, 1))
        assert journal.append({"kind": "answer", "digest": "d", "sample": 0, "answer": None})
    with Journal(path, SETTINGS, key) as journal:
        assert list(journal.records) == [("attempt", 1, 0), ("attempt", 1, 1), ("answer", "d", 0)]
        assert journal.records["attempt", 1, 0]["rewrite"] == "a\u2028\ud800\nb"
    assert path.read_bytes().count(b"\n") == 4


def test_every_record_is_in_the_file_when_append_returns(tmp_path) -> None:
    with Journal(tmp_path / "j", SETTINGS, key, checkpoint=1000) as journal:
        for row in range(3):
            journal.append(attempt(row))
            assert (tmp_path / "j").read_bytes().count(b"\n") == row + 2


def test_checkpoints(tmp_path, monkeypatch) -> None:
    synced = []
    monkeypatch.setattr("co_rewarding.storage.journal.os.fsync", synced.append)
    with Journal(tmp_path / "j", SETTINGS, key, checkpoint=3) as journal:
        before = len(synced)
        for row in range(7):
            journal.append(attempt(row))
        assert len(synced) - before == 2  # after the third and the sixth


@pytest.mark.parametrize("torn", [b"{", b'{"kind": "attempt", "row": 2, "attempt": 0, "rewrite": "y"}'])
def test_torn_last_line_is_cut_off(tmp_path, torn: bytes) -> None:
    path = tmp_path / "j"
    with Journal(path, SETTINGS, key) as journal:
        journal.append(attempt(1))
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with Journal(path, SETTINGS, key) as journal:
        assert list(journal.records) == [("attempt", 1, 0)]
        journal.append(attempt(2, rewrite="z"))
    assert path.read_bytes().startswith(whole)
    with Journal(path, SETTINGS, key) as journal:
        assert journal.records["attempt", 2, 0]["rewrite"] == "z"


def test_torn_header_is_written_again(tmp_path) -> None:
    (tmp_path / "j").write_bytes(b'{"kind": "hea')
    with Journal(tmp_path / "j", SETTINGS, key) as journal:
        journal.append(attempt(1))
    with Journal(tmp_path / "j", SETTINGS, key) as journal:
        assert len(journal.records) == 1


def test_other_settings_are_refused(tmp_path) -> None:
    Journal(tmp_path / "j", SETTINGS, key).close()
    with pytest.raises(JournalError) as error:
        Journal(tmp_path / "j", SETTINGS | {"temperature": 1.0}, key)
    assert str(error.value).endswith(
        "j was made with temperature=0.7, now it is 1.0: set it back to resume, or start over with --restart"
    )


def test_a_digest_is_described_in_words(tmp_path) -> None:
    Journal(tmp_path / "j", SETTINGS | {"data": "abc"}, key).close()
    with pytest.raises(JournalError, match=r"j was made with other questions of d.parquet; start over with --restart$"):
        Journal(tmp_path / "j", SETTINGS | {"data": "abd"}, key, digests={"data": "questions of d.parquet"})


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"kind": "attempt"}\n', b"[]\n", b'{"kind": "answer", "row": 1}\n'])
def test_damage_is_named(tmp_path, line: bytes) -> None:
    with Journal(tmp_path / "j", SETTINGS, key) as journal:
        journal.append(attempt(1))
    (tmp_path / "j").write_bytes((tmp_path / "j").read_bytes() + line + json.dumps(attempt(2)).encode() + b"\n")
    with pytest.raises(JournalError, match="j, line 3: not a record of this tool"):
        Journal(tmp_path / "j", SETTINGS, key)


def test_foreign_files_and_second_writers_are_refused(tmp_path) -> None:
    for header in (
        '{"kind": "header", "version": 0, "settings": {}}',
        '{"kind": "header", "version": 1}',
        "[]",
        "null",
        "the only copy of a letter",
    ):
        for end in ("\n", ""):  # without its end it is not one of ours that was torn, and is not cut off
            (tmp_path / "foreign").write_text(header + end)
            with pytest.raises(JournalError, match="its first line is no header of this version"):
                Journal(tmp_path / "foreign", SETTINGS, key)
            assert (tmp_path / "foreign").read_text() == header + end
    with Journal(tmp_path / "j", SETTINGS, key), pytest.raises(JournalError, match="is in use by another process"):
        Journal(tmp_path / "j", SETTINGS, key)
    with pytest.raises(JournalError, match="cannot be opened: File exists; choose another place"):
        Journal(tmp_path / "j" / "k", SETTINGS, key)


def test_restart_forgets_but_never_what_another_writes(tmp_path) -> None:
    with Journal(tmp_path / "j", SETTINGS, key) as journal:
        journal.append(attempt(1))
        with pytest.raises(JournalError, match="is in use"):
            Journal(tmp_path / "j", SETTINGS, key, restart=True)
    assert (tmp_path / "j").read_bytes().count(b"\n") == 2
    with Journal(tmp_path / "j", {"model": "other"}, key, restart=True) as journal:
        assert not journal.records and journal.append(attempt(2))


def test_a_full_disk_is_reported_in_one_line(tmp_path, monkeypatch) -> None:
    """What was recorded before is there again; the limit on a file's size stands for a full disk."""
    path = tmp_path / "j"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    message = "j cannot be written: File too large; its records are kept$"
    try:
        with pytest.raises(JournalError, match=message), Journal(path, SETTINGS, key) as journal:
            journal.append(attempt(1))
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
            with pytest.raises(JournalError, match=message):
                journal.append(attempt(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    with Journal(path, SETTINGS, key) as journal:
        assert list(journal.records) == [("attempt", 1, 0)]

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("co_rewarding.storage.journal.os.fsync", full)
        with pytest.raises(JournalError, match="j cannot be written: No space left on device"):
            journal.close()


def test_a_file_system_without_locks_is_reported_and_used(tmp_path, monkeypatch, capsys) -> None:
    def flock(*_) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("co_rewarding.storage.journal.fcntl.flock", flock)
    with Journal(tmp_path / "j", SETTINGS, key) as journal:
        assert journal.append(attempt(1))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("j cannot be locked (Operation not supported): make sure that nothing else writes to it")
