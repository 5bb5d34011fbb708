"""Image files as the commands take them."""

from ..files import grey, read, write

__all__ = ["grey", "read", "write"]
