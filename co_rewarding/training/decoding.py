# SPDX-License-Identifier: Apache-2.0
r"""The texts of many responses at once: tokenizer.batch_decode(..., skip_special_tokens=True), ten times as fast.

Decoders of byte-level and of byte-fallback vocabularies write a response as the bytes of its tokens, one after the
other, and read those as UTF-8. So each token's bytes are computed once, and decoding is a look-up:

    ("ĠAh", "!", "Ċ") = " Ah" "!" "\n"          ("▁Ah", "!", "<0x0A>") = " Ah" "!" "\n"

The tokenizer decodes the rest: responses whose bytes are no valid UTF-8 (cut off inside a character) or that have a
token of unknown bytes (NO_TEXT), and all responses where the decoder is of another kind, is changed by the tokenizer's
class, or is written in Python.

Full texts cost less this way than the last 192 tokens of each from the tokenizer (benchmarks/scoring.py), so answers
are read from the full text.

Legend: N responses, T tokens of all of them one after the other.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

ROWS = 32
"""Responses that are looked up together: their indices stay in the processor's cache."""
NO_TEXT = b"\xff"
"""A byte that is never valid in UTF-8: marks tokens whose bytes are unknown."""
_SPACE = "▁"
_BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
_NUM_CHECKS = 500
_TIDIED = "Yes , it 's so . Do n't ?"  # some tokenizers take such spaces out


class TextDecoder:
    """Args: tokenizer: one of transformers'."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        table = _bytes_of_tokens(tokenizer)
        self._has_table = table is not None
        if table is None:
            return
        table.append(NO_TEXT)  # of whatever token the vocabulary does not have
        self._lengths = np.array(list(map(len, table)))
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._bytes = np.frombuffer(b"".join(table), dtype=np.uint8)
        self._has_table = self._agrees_with_the_tokenizer()

    def texts(self, tokens_T: np.ndarray, offsets: np.ndarray) -> list[str]:
        """N texts.

        Args:
            tokens_T: whole numbers from 0, T of them.
            offsets: N + 1, from 0 to T: where each response begins, and the end.
        """
        rows = [slice(*ends) for ends in pairwise(offsets.tolist())]
        if not self._has_table:
            return [self._decoded(tokens_T[row]) for row in rows]
        texts: list[str | None] = []
        for first in range(0, len(rows), ROWS):
            ends = offsets[first : first + ROWS + 1]
            texts += self._looked_up(tokens_T[ends[0] : ends[-1]], ends - ends[0])
        return [self._decoded(tokens_T[row]) if text is None else text for row, text in zip(rows, texts, strict=True)]

    def _looked_up(self, tokens_T: np.ndarray, offsets: np.ndarray) -> list[str | None]:
        """N texts, None for those the tokenizer must decode."""
        tokens_T = np.minimum(tokens_T, len(self._lengths) - 1)
        lengths = self._lengths[tokens_T]
        ends = np.cumsum(lengths)
        index = np.repeat(self._starts[tokens_T] - (ends - lengths), lengths)
        index += np.arange(len(index))
        written = self._bytes[index].tobytes()
        at = np.concatenate([[0], ends])[offsets].tolist()
        texts: list[str | None] = []
        for begin, end in pairwise(at):
            try:
                texts.append(written[begin:end].decode())
            except UnicodeDecodeError:
                texts.append(None)
        return texts

    def _decoded(self, tokens_T: np.ndarray) -> str:
        return self._tokenizer.decode(tokens_T.tolist(), skip_special_tokens=True)

    def _agrees_with_the_tokenizer(self) -> bool:
        """Whether sample responses decode alike: a tokenizer's class may override decoding."""
        draw, num_tokens = random.Random(0), len(self._lengths) - 1
        responses = [[draw.randrange(num_tokens) for _ in range(draw.randrange(1, 5))] for _ in range(_NUM_CHECKS)]
        responses.append(self._tokenizer.encode(_TIDIED, add_special_tokens=False))
        offsets = np.cumsum([0, *map(len, responses)])
        found = self._looked_up(np.concatenate(list(map(np.asarray, responses))), offsets)
        expected = self._tokenizer.batch_decode(responses, skip_special_tokens=True)
        return all(text in (None, right) for text, right in zip(found, expected, strict=True))


def _bytes_of_tokens(tokenizer: Any) -> list[bytes] | None:
    """Bytes of each token by id; None for a decoder of another kind."""
    if not getattr(tokenizer, "is_fast", False) or tokenizer.backend_tokenizer.decoder is None:
        return None
    decoder = json.loads(tokenizer.backend_tokenizer.decoder.__getstate__())
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    kinds = [_kind(step) for step in steps]
    alphabet = None
    if kinds[-1:] == ["ByteLevel"] and set(kinds[:-1]) <= {"ByteFallback", "Fuse", "Space"}:
        alphabet = byte_level_alphabet()
    elif kinds not in (["ByteFallback", "Fuse"], ["Space", "ByteFallback", "Fuse"]):
        return None
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [
        b"" if number in special else NO_TEXT if name is None else _bytes_of(name, kinds, alphabet)
        for number, name in enumerate(names)
    ]


def _kind(step: dict[str, Any]) -> str:
    is_space = step["type"] == "Replace" and (step["pattern"], step["content"]) == ({"String": _SPACE}, " ")
    return "Space" if is_space else step["type"]


def _bytes_of(name: str, kinds: Sequence[str], alphabet: dict[str, int] | None) -> bytes:
    is_byte = _BYTE_TOKEN.fullmatch(name) is not None and "ByteFallback" in kinds
    if alphabet is None:
        name = name.replace(_SPACE, " ") if "Space" in kinds else name
        return bytes([int(name[3:5], 16)]) if is_byte else name.encode()
    # what is not all of the alphabet's characters is written as it stands, and alone or not by the kind of decoder
    return NO_TEXT if is_byte or not set(name) <= alphabet.keys() else bytes(map(alphabet.__getitem__, name))


def byte_level_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for: visible ones for themselves, the others, in
    their order, for the characters from 256 on (Radford et al. 2019)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(others)}
