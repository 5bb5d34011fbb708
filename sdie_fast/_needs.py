"""Packages that only a part of this one needs, and that may be missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingPackageError

__all__ = ["needing"]


@contextmanager
def needing(install: str) -> Iterator[None]:
    """Tell what an import lacks, and what `pip install` is to be given.

    Raises
    ------
    MissingPackageError
        An import failed; the message has the command.
    """
    try:
        yield
    except MissingPackageError:  # it names its own
        raise
    except ImportError as error:
        told = f"{error.name} is missing" if error.name else str(error)
        raise MissingPackageError(f"{told}: pip install {install}", name=error.name) from error
