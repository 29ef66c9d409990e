"""Channels really removed: which ones go together, which ones say nothing, and files of what is left."""

from compression.shrinking._shrink import ShrinkResult, ShrunkLayer, shrink
from compression.shrinking.files import load_shrunk, save_shrunk
from compression.shrinking.silencing import mask_dead_norm_channels, zero_dead_parameters
from compression.shrinking.sorting import SortedLayer, SortResult, sort_units

__all__ = [
    "ShrinkResult",
    "ShrunkLayer",
    "SortResult",
    "SortedLayer",
    "load_shrunk",
    "mask_dead_norm_channels",
    "save_shrunk",
    "shrink",
    "sort_units",
    "zero_dead_parameters",
]
