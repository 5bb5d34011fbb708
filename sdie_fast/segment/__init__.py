"""Segmentation: the frozen model whose answer the enhancement improves."""
