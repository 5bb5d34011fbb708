"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, save: Callable[[BinaryIO], object], *, durable: bool = False) -> None:
    """Write a file by atomic rename: `save(file)` fills a neighbour that then takes its name.

    Folders are made as needed. What `save` or the file system raises passes through, and an older
    file is then still there, unchanged. durable: what was written outlives a power failure, which
    costs a wait for the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            save(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
