"""The errors this package raises.

Every one derives from `SdieError`, and also from the built-in exception a caller would expect, so
that both ``except SdieError`` and ``except ValueError`` work. Messages name the argument, what was
received and what is accepted.
"""

__all__ = [
    "BackendUnavailableError",
    "BusyError",
    "DataSetError",
    "DeviceMemoryError",
    "ImageFileError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "LineError",
    "MissingPackageError",
    "ModelError",
    "RecipeError",
    "RunError",
    "SdieError",
]


class SdieError(Exception):
    """Base of every error raised by sdie_fast."""


class InvalidArgumentError(SdieError, ValueError):
    """An argument's value cannot be used: its shape, its range, NaN, an overlap in memory."""


class InvalidTypeError(SdieError, TypeError):
    """An argument's type, or an array's dtype, cannot be used."""


class BackendUnavailableError(SdieError, RuntimeError):
    """A backend asked for by name cannot run here; the message gives the reason and the fix."""


class DeviceMemoryError(SdieError, MemoryError):
    """A GPU's memory does not suffice; the message says what was needed and what was free."""


class RecipeError(SdieError, ValueError):
    """A recipe cannot be read or written; the message names the file and the field."""


class ImageFileError(SdieError, OSError):
    """An image file cannot be read or written; the message names the file."""


class DataSetError(SdieError, OSError):
    """A data set or a split cannot be read; the message names the file."""


class ModelError(SdieError, RuntimeError):
    """A segmentation model cannot be read, exported or run; the message names the file or the fix."""


class MissingPackageError(SdieError, ImportError):
    """A package that this part needs is missing; the message has the command that installs it."""


class RunError(SdieError, OSError):
    """A training run's folder cannot be used: in use, of other settings, damaged, or the disk is full."""


class LineError(SdieError, RuntimeError):
    """A plan or stream of the line cannot have its threads or their priority, or is in a process without them."""


class BusyError(LineError):
    """Another call is in the plan or stream, which serves one at a time."""
