# SPDX-License-Identifier: Apache-2.0
"""The datasets on real parquet files, with verl's loader, the `datasets` library and a real small tokenizer."""

import copy
import csv
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig, OmegaConf
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.experimental.agent_loop.agent_loop import create_continuous_token_builder
from verl.utils.dataset.rl_dataset import collate_fn, get_dataset_class

from co_rewarding.storage.rows import SYSTEM_PROMPT
from co_rewarding.tools.generation.vllm_engine import prompt_ids
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.asking import settle
from co_rewarding.training.dataset import REPHRASED_PROMPT, PairedDataset, QuestionDataset
from co_rewarding.training.preflight.data import read_data, rows_of

QUESTIONS = ["What is 11 + 12?", "What is 13 + 14?", "What is 15 + 16?", "What is 17 + 18?", "What is 19 + 20?"]
REPHRASED = [question.replace("What is", "Compute").replace("?", ".") for question in QUESTIONS]
SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "ability": pa.string(),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct({"index": pa.int64(), "split": pa.string()}),
    }
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`datasets` writes what it reads into a cache: into a folder of this test."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


def write(path: Path, questions: Sequence[str], indices: Sequence[int] | None = None) -> Path:
    rows = [
        {
            "data_source": "toy",
            "prompt": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(100 + index)},
            "extra_info": {"index": index, "split": "train"},
        }
        for index, question in zip(indices or range(len(questions)), questions, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return path


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., DictConfig]:
    """Writes the questions above, or others, and returns the `data` block that reads them."""

    def make(original: Sequence[str] = QUESTIONS, rephrased: Sequence[str] = REPHRASED, **settings: Any) -> DictConfig:
        return OmegaConf.create(
            {
                "train_files": str(write(tmp_path / "train.parquet", original)),
                "train_aug_files": str(write(tmp_path / "train_rephrased.parquet", rephrased)),
                "val_files": str(write(tmp_path / "test.parquet", original[:2])),
                "prompt_key": "prompt",
                "max_prompt_length": 64,
                "filter_overlong_prompts": True,
                "filter_overlong_prompts_workers": None,  # in this process; verl's default of 1 forks one
                "return_raw_chat": True,
                **settings,
            }
        )

    return make


@pytest.fixture
def make(make_config: Callable[..., DictConfig], tokenizer: Any) -> Callable[..., PairedDataset]:
    """A training set of the questions above, or of others."""

    def make_dataset(*wordings: Sequence[str], max_samples: int = -1, **settings: Any) -> PairedDataset:
        config = make_config(*wordings, **settings)
        return PairedDataset(config.train_files, tokenizer, config, max_samples=max_samples)

    return make_dataset


def pairs(dataset: PairedDataset) -> list[tuple[str, str]]:
    """(original, rephrased) wording of each row, as the trainer reads them."""
    rows = [dataset[i] for i in range(len(dataset))]
    return [(row["raw_prompt"][-1]["content"], row[REPHRASED_PROMPT][-1]["content"]) for row in rows]


def test_the_same_file_twice_asks_each_question_twice(make_config: Callable[..., DictConfig], tokenizer: Any) -> None:
    config = OmegaConf.create({"co_rewarding": {"method": "co_rewarding_I_same_wording"}, "data": make_config()})
    settle(config)
    dataset = PairedDataset(config.data.train_files, tokenizer, config.data)
    assert pairs(dataset) == list(zip(QUESTIONS, QUESTIONS, strict=True))


def test_a_row_has_both_wordings(make: Callable[..., PairedDataset]) -> None:
    dataset = make()
    assert pairs(dataset) == list(zip(QUESTIONS, REPHRASED, strict=True))
    row = dataset[3]
    assert row["index"] == 3
    assert row["reward_model"]["ground_truth"] == "103"
    assert row[REPHRASED_PROMPT] == [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": "Compute 17 + 18."},
    ]


def test_rows_collate_as_verl_collates_them(make: Callable[..., PairedDataset]) -> None:
    dataset = make()
    batch = collate_fn([dataset[0], dataset[1]])
    assert [messages[-1]["content"] for messages in batch[REPHRASED_PROMPT]] == REPHRASED[:2]


LONG = "What is 13 + 14?" + " Compute it." * 40  # at least 2 tokens a repetition: more than the 64 allowed


@pytest.mark.parametrize("view", ["original", "rephrased"])
def test_a_long_wording_drops_both(make: Callable[..., PairedDataset], view: str) -> None:
    files = {"original": list(QUESTIONS), "rephrased": list(REPHRASED)}
    files[view][1] = LONG
    dataset = make(**files, filter_overlong_prompts_workers=1)
    kept = [0, 2, 3, 4]
    assert pairs(dataset) == [(QUESTIONS[i], REPHRASED[i]) for i in kept]
    assert [dataset[i]["index"] for i in range(4)] == kept


def test_a_question_long_in_both_wordings_counts_once(make: Callable[..., PairedDataset]) -> None:
    assert len(make([LONG, *QUESTIONS[1:]], [LONG, *REPHRASED[1:]])) == 4


@pytest.mark.parametrize("refuses", [True, False])
def test_a_template_without_a_place_for_the_system_message(
    make: Callable[..., PairedDataset], tokenizer: Any, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    """It refuses the role, or leaves the message out: both views have it in the user's, before verl counts tokens."""
    other = "{{ raise_exception('System role not supported') }}" if refuses else ""
    users = "{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% else %}" + other + "{% endif %}"
    monkeypatch.setattr(tokenizer, "chat_template", "{% for m in messages %}" + users + "{% endfor %}<|assistant|>")
    merged = [{"role": "user", "content": f"{SYSTEM_PROMPT}\n\n{REPHRASED[2]}"}]
    longest = len(tokenizer(tokenizer.apply_chat_template(merged, tokenize=False))["input_ids"])
    dataset = make(REPHRASED, REPHRASED, max_prompt_length=longest)  # built alike, so all are as long
    assert len(dataset) == 5
    assert dataset[2]["raw_prompt"] == dataset[2][REPHRASED_PROMPT] == merged
    assert len(make(REPHRASED, REPHRASED, max_prompt_length=longest - 1)) == 0


@pytest.mark.parametrize("thinks", [True, False, None])
def test_a_rollout_and_an_evaluation_ask_in_the_same_tokens(
    make: Callable[..., PairedDataset], tokenizer: Any, monkeypatch: pytest.MonkeyPatch, thinks: bool | None
) -> None:
    """What verl's rollout loop makes of a row, against what evaluation makes of the file's messages."""
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "<|user|>{{ m.content }}{% endfor %}<|assistant|>"
        "{% if enable_thinking is defined and not enable_thinking %}1 + 1{% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", template)
    kwargs = {} if thinks is None else {"enable_thinking": thinks}
    dataset = make(max_prompt_length=512, apply_chat_template_kwargs=kwargs)
    verls = create_continuous_token_builder(tokenizer, hf_model_type="llama", chat_template_kwargs=kwargs)
    for row, question in zip(dataset, QUESTIONS, strict=True):
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}]
        ids = verls.build_initial_tokens(row["raw_prompt"])
        assert ids == prompt_ids(tokenizer, messages, **kwargs)
        assert (ids[-1] == tokenizer.convert_tokens_to_ids("<|assistant|>")) is (thinks is not False)


def test_the_limit_is_inclusive(make: Callable[..., PairedDataset], tokenizer: Any) -> None:
    def num_tokens(question: str) -> int:
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}]
        return len(
            tokenizer(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))["input_ids"]
        )

    longest = max(num_tokens(question) for question in [*QUESTIONS, *REPHRASED])
    assert len(make(max_prompt_length=longest)) == 5
    # one fewer: every question whose longer wording is that long goes, all being built alike
    short = [
        pair
        for pair in zip(QUESTIONS, REPHRASED, strict=True)
        if max(num_tokens(question) for question in pair) < longest
    ]
    assert pairs(make(max_prompt_length=longest - 1)) == short


def test_without_the_filter_nothing_is_dropped(make: Callable[..., PairedDataset]) -> None:
    dataset = make([LONG, *QUESTIONS[1:]], filter_overlong_prompts=False)
    assert pairs(dataset)[0] == (LONG, REPHRASED[0])
    assert len(dataset) == 5


def test_sampled_questions_keep_their_rephrasing(make: Callable[..., PairedDataset]) -> None:
    # verl samples rows of the original file in random order; a join by row number would pair them wrongly
    dataset = make(max_samples=3, shuffle=True, seed=1)
    found = pairs(dataset)
    assert len(found) == 3
    rephrasing_of = dict(zip(QUESTIONS, REPHRASED, strict=True))
    assert found == [(question, rephrasing_of[question]) for question, _ in found]
    assert [question for question, _ in found] != QUESTIONS[:3]  # seed 1 does not happen to keep the order


def test_the_first_questions_without_shuffling(make: Callable[..., PairedDataset]) -> None:
    assert pairs(make(max_samples=2)) == list(zip(QUESTIONS[:2], REPHRASED[:2], strict=True))


def test_several_files_pair_up_in_order(make: Callable[..., PairedDataset], tmp_path: Path) -> None:
    more = [str(write(tmp_path / f"{name}.parquet", [name], [7])) for name in ("one more", "again, one more")]
    base = [str(tmp_path / name) for name in ("train.parquet", "train_rephrased.parquet")]  # written by make
    dataset = make(train_files=[base[0], more[0]], train_aug_files=[base[1], more[1]])
    assert pairs(dataset)[-1] == ("one more", "again, one more")
    assert len(dataset) == 6


def test_files_in_another_order_are_refused(make: Callable[..., PairedDataset], tmp_path: Path) -> None:
    shuffled = write(tmp_path / "shuffled.parquet", REPHRASED, [1, 0, 2, 3, 4])
    with pytest.raises(ValueError, match=r"shuffled.parquet do not pair up.*row 0: 0 and 1; row 1: 1 and 0"):
        make(train_aug_files=str(shuffled))


def test_a_file_that_is_too_short_is_refused(make: Callable[..., PairedDataset]) -> None:
    with pytest.raises(ValueError, match="do not pair up: 5 and 4 rows"):
        make(rephrased=REPHRASED[:4])


def test_validation_has_the_original_wording_only(make_config: Callable[..., DictConfig], tokenizer: Any) -> None:
    config = make_config()
    validation = PairedDataset(config.val_files, tokenizer, config)
    assert len(validation) == 2
    assert REPHRASED_PROMPT not in validation[0]
    assert REPHRASED_PROMPT not in validation.dataframe.column_names


def test_validation_on_a_copy_of_the_training_file_has_the_original_wording_only(
    make_config: Callable[..., DictConfig], tokenizer: Any
) -> None:
    # as an overfitting check is set up; the path tells the two uses apart
    config = make_config([LONG, *QUESTIONS[1:]], [*REPHRASED[:4], LONG])
    config.val_files = str(Path(config.train_files).with_name("copy.parquet"))
    Path(config.val_files).write_bytes(Path(config.train_files).read_bytes())
    validation = PairedDataset(config.val_files, tokenizer, config)
    assert [row["raw_prompt"][-1]["content"] for row in validation] == QUESTIONS[1:]
    assert REPHRASED_PROMPT not in validation[0]


def test_validation_on_the_training_file_itself_asks_what_is_trained_on(
    make_config: Callable[..., DictConfig], tokenizer: Any
) -> None:
    config = make_config([LONG, *QUESTIONS[1:]], [*REPHRASED[:4], LONG])
    # one path is given as a list, the other not: the same file all the same
    validation = PairedDataset(OmegaConf.create([config.train_files]), tokenizer, config)
    # question 4 is too long in its other wording, and therefore in neither set; what is asked is the original wording
    assert [row["raw_prompt"][-1]["content"] for row in validation] == QUESTIONS[1:4]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_a_copy_resumes_to_the_same_rows(make: Callable[..., PairedDataset], clone: Callable[[Any], Any]) -> None:
    # verl's dataloader pickles the dataset without its rows and reads the files again
    dataset = make([LONG, *QUESTIONS[1:]])
    resumed = clone(dataset)
    assert REPHRASED[1].encode() not in pickle.dumps(dataset)
    resumed.resume_dataset_state()
    assert pairs(resumed) == pairs(dataset) == list(zip(QUESTIONS[1:], REPHRASED[1:], strict=True))


def test_resuming_the_dataset_itself(make: Callable[..., PairedDataset]) -> None:
    dataset = make(max_samples=3, shuffle=True, seed=1)
    before = pairs(dataset)
    dataset.resume_dataset_state()
    assert pairs(dataset) == before


UNLABELLED = {
    "text": {"style": "rule", "ground_truth": ""},
    "null": {"style": "rule", "ground_truth": None},
    "no field": {"style": "rule"},
    "no struct": None,
    "no column": ...,
}


@pytest.mark.parametrize("nothing", UNLABELLED)
def test_a_row_without_ground_truth_has_what_verl_reads(
    make_config: Callable[..., DictConfig], tokenizer: Any, tmp_path: Path, nothing: str
) -> None:
    config, path = make_config(), tmp_path / "unlabelled.parquet"
    rows = [{**row, "reward_model": UNLABELLED[nothing]} for row in pq.read_table(config.val_files).to_pylist()]
    rows = [{name: value for name, value in row.items() if value is not ...} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), path)
    dataset = QuestionDataset(str(path), tokenizer, config)
    assert [row["reward_model"] for row in dataset] == 2 * [{"style": "rule", "ground_truth": ""}]
    # beside a file with ground truths: verl joins them
    both = QuestionDataset([config.val_files, str(path)], tokenizer, config)
    assert [row["reward_model"]["ground_truth"] for row in both] == ["100", "101", "", ""]


def test_pairs_without_the_column_of_ground_truths(make: Callable[..., PairedDataset], tmp_path: Path) -> None:
    files = {}
    make()  # writes them
    for key, name in (("train_files", "train"), ("train_aug_files", "train_rephrased")):
        files[key] = str(tmp_path / f"unlabelled_{name}.parquet")
        pq.write_table(pq.read_table(tmp_path / f"{name}.parquet").drop_columns(["reward_model"]), files[key])
    dataset = make(**files)
    assert pairs(dataset) == list(zip(QUESTIONS, REPHRASED, strict=True))
    assert dataset[0]["reward_model"]["ground_truth"] == ""


@pytest.mark.parametrize("cls", [QuestionDataset, PairedDataset])
def test_no_validation_file_is_no_row(make_config: Callable[..., DictConfig], tokenizer: Any, cls: type) -> None:
    """Through verl's loader, with what launch.py sets."""
    config = make_config(val_files=[])
    dataset = cls(config.val_files, tokenizer, config)
    loader = StatefulDataLoader(dataset, batch_size=1, shuffle=False, drop_last=False, collate_fn=collate_fn)
    assert len(dataset) == 0
    assert list(loader) == []


@pytest.mark.parametrize("name", ["[a]", "a*", "a?", "ü (1)=,{b}", "it's #1 ~ & ; % @ ! `x` $", "back\\slash"])
def test_a_path_is_no_pattern(
    name: str, make: Callable[..., PairedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    for folder in ("a", "ab"):  # what a pattern would find
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "[train].parquet", ["another question"])
    files = [str(write(tmp_path / name / "[train].parquet", QUESTIONS))]
    dataset = make(train_files=files)
    assert pairs(dataset) == list(zip(QUESTIONS, REPHRASED, strict=True))
    dataset.resume_dataset_state()
    assert pairs(dataset) == list(zip(QUESTIONS, REPHRASED, strict=True))
    monkeypatch.chdir(tmp_path / name)
    assert pairs(make(train_files=["[train].parquet"])) == pairs(dataset)


def test_verl_finds_the_class_by_our_config() -> None:
    custom = {"custom_cls": {"path": "pkg://co_rewarding.training.dataset", "name": "PairedDataset"}}
    assert get_dataset_class(OmegaConf.create(custom)).__name__ == "PairedDataset"


def as_table(path: Path, questions: Sequence[str], start: int = 0) -> Path:
    """CSV with quotes and line breaks, of which the third column is made for nobody."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["Problem", "Target", "Note"])
        table.writerows(
            [question.replace(" ", "\n", 1), str(100 + i), '"x"'] for i, question in enumerate(questions, start)
        )
    return path


def checked_rows(config: DictConfig) -> dict[str, list[dict[str, Any]]]:
    """What the checks before a run read of the same files."""
    return {key: list(rows) for key, rows in rows_of(read_data(OmegaConf.create({"data": config}))).items()}


def test_tables_are_the_rows_that_were_checked(
    make_config: Callable[..., DictConfig], tokenizer: Any, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    lists = [as_table(tmp_path / "a.csv", QUESTIONS[:2]), as_table(tmp_path / "folder/b.csv", QUESTIONS[2:], start=2)]
    lists[1] = tmp_path / "folder"
    config = make_config(
        train_files=[str(path) for path in lists],
        train_aug_files=str(as_table(tmp_path / "r.csv", REPHRASED)),
        val_files=str(as_table(tmp_path / "v.csv", QUESTIONS[:2])),
        cache_dir=str(tmp_path / "cache"),
    )
    checked = checked_rows(config)
    dataset = PairedDataset(config.train_files, tokenizer, config)
    rows = [dataset[i] for i in range(len(dataset))]
    assert [row["raw_prompt"] for row in rows] == [row["prompt"] for row in checked["data.train_files"]]
    assert [row[REPHRASED_PROMPT] for row in rows] == [row["prompt"] for row in checked["data.train_aug_files"]]
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["extra_info"] for row in rows] == [row["extra_info"] for row in checked["data.train_files"]]
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["100", "101", "102", "103", "104"]
    validation = PairedDataset(config.val_files, tokenizer, config)
    assert [row["raw_prompt"] for row in validation] == [row["prompt"] for row in checked["data.val_files"]]
    assert "\n" in validation[0]["raw_prompt"][-1]["content"]
    dataset.resume_dataset_state()  # as after a restart
    assert [dataset[i]["raw_prompt"] for i in range(5)] == [row["raw_prompt"] for row in rows]


def test_formats_and_choices_of_tables_reach_the_rows(
    make_config: Callable[..., DictConfig], tokenizer: Any, tmp_path: Path
) -> None:
    lines = [
        {"question": "Capital?", "choices": ["Rome", "Oslo"], "answer": "Oslo"},
        {"question": "1 + 1?", "answer": 2},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for spec, stated in (
        ("", [{"answer_format": "choice", "choices": ["Rome", "Oslo"]}, {"answer_format": "", "choices": []}]),
        (
            "number",
            [{"answer_format": "number", "choices": ["Rome", "Oslo"]}, {"answer_format": "number", "choices": []}],
        ),
    ):
        config = make_config(train_files=str(tmp_path / "q.jsonl"), train_aug_files=None, answer_format=spec)
        config.cache_dir = str(tmp_path / "cache")
        config.max_prompt_length = 512
        dataset = QuestionDataset(config.train_files, tokenizer, config)
        assert [dataset[i]["stated_as"] for i in range(2)] == stated
        checked = checked_rows(config)["data.train_files"]
        assert [dataset[i]["raw_prompt"] for i in range(2)] == [row["prompt"] for row in checked]
        assert dataset[0]["reward_model"]["ground_truth"] == "B"


def test_a_table_joins_with_an_older_file(
    make_config: Callable[..., DictConfig], tokenizer: Any, tmp_path: Path
) -> None:
    config = make_config(train_aug_files=None, cache_dir=str(tmp_path / "cache"))
    both = [config.train_files, str(as_table(tmp_path / "more.csv", ["What is 21 + 22?"]))]
    dataset = QuestionDataset(both, tokenizer, config)
    assert [dataset[i]["index"] for i in range(6)] == [0, 1, 2, 3, 4, 5]
    assert dataset[5]["raw_prompt"][-1]["content"] == "What\nis 21 + 22?"
