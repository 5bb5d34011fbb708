"""Segmentation: the frozen model whose answer the enhancement improves."""

from .prompts import Auto, Support
from .runtime import Options
from .sam import Sam
from .segmenter import Embeddings, Prompt, Segmenter

__all__ = ["Auto", "Embeddings", "Options", "Prompt", "Sam", "Segmenter", "Support"]
