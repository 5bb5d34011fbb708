"""Answers of a segmenter kept on disk: an evaluation that was killed goes on, and several runs share what is the same."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import RunError
from ..segment import Prompt, Segmenter, Support
from ..segment.prompts import Answer

__all__ = ["Memory", "prompt_key"]

_MANY = 500  # keys in a query; SQLite's limit is 999


def prompt_key(prompt: Any, options: dict[str, Any]) -> bytes:
    """What a prompt is, as a hash: equal for equal prompts."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(prompt, str):
        digest.update(json.dumps([prompt, sorted(options.items())]).encode())
    elif isinstance(prompt, Support):
        digest.update(prompt.fingerprint)
    elif isinstance(prompt, Prompt):
        for array in (prompt.points, prompt.labels, prompt.boxes, prompt.masks):
            part = b"-" if array is None else np.asarray(array, np.float32).tobytes()
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


class Memory:
    """Answers by segmenter, prompt and image, in one SQLite file that several processes may use.

    Parameters
    ----------
    path : Path
        Made if need be.
    segmenter : Segmenter

    Raises
    ------
    RunError
        The file cannot be used.
    """

    def __init__(self, path: Path, segmenter: Segmenter) -> None:
        self._path, self._model = path, segmenter.fingerprint.encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=60.0, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, height INTEGER, width INTEGER, "
                "mask BLOB, quality REAL, stability REAL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise RunError(f"{path}: cannot be used: {error}") from error

    def key(self, prompt: bytes, image: npt.NDArray[np.uint8]) -> bytes:
        """Key of an image under `prompt_key`."""
        digest = hashlib.blake2b(self._model, digest_size=16)
        digest.update(prompt + np.array(image.shape, np.int64).tobytes() + image.tobytes())
        return digest.digest()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Those that are known."""
        found: dict[bytes, Answer] = {}
        try:
            for start in range(0, len(keys), _MANY):
                part = list(keys[start : start + _MANY])
                marks = ",".join("?" * len(part))
                rows = self._file.execute(f"SELECT * FROM answers WHERE key IN ({marks})", part)
                for key, height, width, mask, quality, stability in rows:
                    bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=height * width)
                    found[key] = Answer(bits.reshape(height, width).astype(bool), quality, stability)
        except (sqlite3.Error, ValueError) as error:
            raise RunError(f"{self._path}: cannot be read: {error}") from error
        return found

    def put(self, answers: dict[bytes, Answer]) -> None:
        """Keep answers."""
        rows = [
            (key, *a.mask.shape, np.packbits(a.mask).tobytes(), a.quality, a.stability) for key, a in answers.items()
        ]
        try:
            self._file.execute("BEGIN")
            self._file.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?)", rows)
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise RunError(f"{self._path}: cannot be written: {error}") from error
