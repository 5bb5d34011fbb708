"""Segmentation: the frozen model whose answer the enhancement improves."""

from .._runtime import Options
from .prompts import Auto
from .sam import Sam
from .segmenter import Embeddings, Prompt, Segmenter
from .support import Support

__all__ = ["Auto", "Embeddings", "Options", "Prompt", "Sam", "Segmenter", "Support"]
