"""The data of the lexical toxicity model: one file, a readable header and a packed table.

Line 1 is a JSON object: where the numbers come from, their licence, how they are packed, and the SHA-256 of the table.
The rest is the table, compressed by zlib:

    words       UTF-8, sorted, one per line, then a zero byte
    counts      uint32 little-endian per word: 1 + the number of training documents that hold it
    planes      per calibrated model four planes of one byte per word: the weights as int32 little-endian, the lowest
                byte of every word first (bytes of one place compress better side by side)

A weight is its integer / 2**fraction_bits and holds the model's coefficient times its calibration's slope, so a model
is `1 / (1 + exp(-(intercept + sum of weight * x)))`. `tools/export_toxicity_model.py` writes the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import ConfigError

__all__ = ["WEIGHTS_FILE", "ToxicityWeights", "read_weights"]

WEIGHTS_FILE = Path(__file__).resolve().parent / "data" / "toxicity_weights.bin"

TABLE_BYTES_MAX = 4_000_000
"""Largest table that is unpacked: ours has half a megabyte, and a damaged file must not fill the memory."""


@dataclass(frozen=True, slots=True)
class ToxicityWeights:
    """The unpacked table. `index` maps a word to its place in `idf` and in each of `columns`.

    idf: natural logarithm of (documents + 1) / count, plus 1. columns: one integer per word and calibrated model;
    `scale` makes weights of them. intercepts: one per model. header: the first line of the file.
    """

    header: dict[str, Any]
    index: dict[str, int]
    idf: array[float]
    columns: tuple[array[int], ...]
    intercepts: tuple[float, ...]
    scale: float


def read_weights(path: Path = WEIGHTS_FILE) -> ToxicityWeights:
    """Read and check *path*.

    Raises: ConfigError if the file cannot be read or if it is not what its header says.
    """
    try:
        head, _, packed = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise _broken(path, error.strerror or type(error).__name__) from None
    try:
        header = json.loads(head)
        table = zlib.decompressobj().decompress(packed, TABLE_BYTES_MAX)
        if hashlib.sha256(table).hexdigest() != header["table_sha256"]:
            raise _broken(path, "its SHA-256 is not the one in its header")
        return _unpacked(header, table)
    except (ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
        raise _broken(path, f"it cannot be unpacked ({type(error).__name__})") from None


def _unpacked(header: dict[str, Any], table: bytes) -> ToxicityWeights:
    text, _, numbers = table.partition(b"\0")
    words = text.decode().split("\n")
    size = len(words)
    intercepts = tuple(float(value) for value in header["intercepts"])
    if len(numbers) != 4 * size * (1 + len(intercepts)) or size != header["words"]:
        raise ValueError("the table is cut")
    counts = _integers("I", numbers[: 4 * size])
    columns = []
    for start in range(4 * size, len(numbers), 4 * size):
        rows = bytearray(4 * size)
        for place in range(4):
            rows[place::4] = numbers[start + place * size : start + (place + 1) * size]
        columns.append(_integers("i", bytes(rows)))
    documents = float(header["documents_plus_one"])
    return ToxicityWeights(
        header=header,
        index={word: place for place, word in enumerate(words)},
        idf=array("d", [math.log(documents / count) + 1.0 for count in counts]),
        columns=tuple(columns),
        intercepts=intercepts,
        scale=2.0 ** -int(header["fraction_bits"]),
    )


def _integers(code: str, raw: bytes) -> array[int]:
    numbers: array[int] = array(code, raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _broken(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"the toxicity model {str(path)!r} cannot be used: {reason}",
        hint="restore the file from the repository, or run with --toxicity off",
    )
