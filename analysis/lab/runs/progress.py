"""A progress bar with the time left, on a terminal and in notebooks; nothing elsewhere."""

from compression.progress import OnProgress, silent
from compression.progress import bar as progress

__all__ = ["OnProgress", "progress", "silent"]
