# SPDX-License-Identifier: Apache-2.0
"""A chat template's file and the switch for thinking arrive where verl reads them, or are refused in one line."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.storage.messages import MAX_TEMPLATE_BYTES
from co_rewarding.training.asking import TEMPLATE, THINKING, settle

TEXT = "{% for m in messages %}{{ '$' }}{{ m['content'] }} 'quoted', \\n {x: [1]}\n{% endfor %}"


@pytest.fixture
def config() -> DictConfig:
    return OmegaConf.create(
        {
            "co_rewarding": {"method": "majority_voting", "chat_template": None, "enable_thinking": None},
            "data": {"apply_chat_template_kwargs": {}},
            "actor_rollout_ref": {"model": {"custom_chat_template": None}},
        },
        flags={"struct": True},
    )


def test_nothing_is_said_where_nothing_is_set(config: DictConfig) -> None:
    before = config.copy()
    settle(config)
    config.co_rewarding.chat_template = ""  # CHAT_TEMPLATE= in a run script
    settle(config)
    config.co_rewarding.chat_template = None
    assert config == before


def test_a_template_arrives_as_it_is(config: DictConfig, tmp_path: Path) -> None:
    file = tmp_path / "own (1).jinja"
    file.write_text(TEXT, encoding="utf-8")
    config.co_rewarding.chat_template = str(file)
    settle(config)
    settle(config)  # what is settled may be settled again
    resolved = OmegaConf.to_container(config, resolve=True)  # as verl has it
    assert resolved["actor_rollout_ref"]["model"]["custom_chat_template"] == TEXT


@pytest.mark.parametrize("value", [True, False])
def test_the_switch_arrives(config: DictConfig, value: bool) -> None:
    config.co_rewarding.enable_thinking = value
    settle(config)
    assert OmegaConf.select(config, THINKING) is value


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"${{ x }}", r"has ${, .* write the $ as {{ '$' }}"),
        (b"x" * (MAX_TEMPLATE_BYTES + 1), "too large for a chat template"),
    ],
)
def test_a_file_that_is_no_template(config: DictConfig, tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "t.jinja"
    if content is not None:
        file.write_bytes(content)
    config.co_rewarding.chat_template = str(file)
    with pytest.raises(ValueError, match=rf"^co_rewarding\.chat_template={file}: .*{why.replace('$', '[$]')}") as error:
        settle(config)
    assert "\n" not in str(error.value)


def test_two_that_say_different_things(config: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("a")
    config.co_rewarding.chat_template, config.actor_rollout_ref.model.custom_chat_template = (
        str(tmp_path / "t.jinja"),
        "b",
    )
    with pytest.raises(ValueError, match=rf"chat_template=.*: {TEMPLATE} has another value"):
        settle(config)
    config.co_rewarding.chat_template, config.co_rewarding.enable_thinking = None, True
    OmegaConf.update(config, THINKING, False, force_add=True)
    with pytest.raises(ValueError, match=rf"enable_thinking=True: {THINKING} has another"):
        settle(config)


def test_a_method_that_asks_the_original_twice_needs_no_other_file(capsys: pytest.CaptureFixture[str]) -> None:
    for original in ("a.parquet", ["a.parquet", "b.csv"]):
        for rephrased, said in (("???", False), (None, False), (original, False), ("x.parquet", True)):
            config = OmegaConf.create(
                {
                    "co_rewarding": {"method": "co_rewarding_I_same_wording+0.1*format_only"},
                    "data": {"train_files": original, "train_aug_files": rephrased},
                },
                flags={"struct": True},
            )
            settle(config)
            settle(config)
            assert OmegaConf.to_container(config.data) == {"train_files": original, "train_aug_files": original}
            line = capsys.readouterr().out
            assert line.count("\n") == said and ("train_aug_files=x.parquet: is ignored, since" in line) == said


@pytest.mark.parametrize("method", ["co_rewarding_I", "majority_voting_both_views"])
def test_no_other_method_changes_the_files(method: str) -> None:
    config = OmegaConf.create(
        {"co_rewarding": {"method": method}, "data": {"train_files": "a", "train_aug_files": "b"}}
    )
    settle(config)
    assert config.data == {"train_files": "a", "train_aug_files": "b"}


def test_what_is_missing_is_left_to_the_checks() -> None:
    for data in ({"train_files": "a"}, {"train_files": "???", "train_aug_files": "b"}):
        config = OmegaConf.create({"co_rewarding": {"method": "co_rewarding_I_same_wording"}, "data": data})
        settle(config)
        assert config.data == OmegaConf.create(data)
