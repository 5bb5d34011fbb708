"""Image files in and out: what a file says of its pixels is honoured or refused, never ignored."""

from ._pillow import Picture, decode, encode, measure, read, write
from .atomic import IMAGE_SUFFIXES, opened_image, read_file, replace_file
from .remote import RemoteStore, open_store
from .store import Entry, LocalStore, Store

__all__ = [
    "IMAGE_SUFFIXES",
    "Entry",
    "LocalStore",
    "Picture",
    "RemoteStore",
    "Store",
    "decode",
    "encode",
    "measure",
    "open_store",
    "opened_image",
    "read",
    "read_file",
    "replace_file",
    "write",
]
