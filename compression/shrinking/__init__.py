"""Channels really removed: which ones go together, which ones say nothing, and files of what is left."""

from compression.shrinking._shrink import ShrinkResult, ShrunkLayer, shrink
from compression.shrinking.files import load_shrunk, save_shrunk
from compression.shrinking.silencing import silence_dead, silence_norms

__all__ = [
    "ShrinkResult",
    "ShrunkLayer",
    "load_shrunk",
    "save_shrunk",
    "shrink",
    "silence_dead",
    "silence_norms",
]
