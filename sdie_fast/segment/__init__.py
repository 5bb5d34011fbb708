"""Segmentation: the frozen model whose answer the enhancement improves."""

from .geometry import Embeddings, Prompt
from .onnx import Options
from .prompts import Auto
from .sam import Sam
from .segmenter import Segmenter
from .support import Support

__all__ = ["Auto", "Embeddings", "Options", "Prompt", "Sam", "Segmenter", "Support"]
