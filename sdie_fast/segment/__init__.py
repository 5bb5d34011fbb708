"""Segmentation: the frozen model whose answer the enhancement improves."""

from .geometry import Embeddings, Prompt
from .maps import OnnxSegmenter
from .onnx import Options
from .prompts import Auto
from .sam import Sam
from .segmenter import Segmenter
from .support import Support

__all__ = ["Auto", "Embeddings", "OnnxSegmenter", "Options", "Prompt", "Sam", "Segmenter", "Support"]
