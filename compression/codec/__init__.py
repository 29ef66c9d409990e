"""The smallest honest file: what is stored of each tensor, and the context model that codes it."""

from compression.codec._codec import (
    HEADER,
    MAGIC,
    CodedTensor,
    CodingReport,
    coding_report,
    decode,
    encode,
)
from compression.codec.archive import Archive
from compression.codec.checkpoint import CheckpointFile, CheckpointReport, encode_checkpoint
from compression.codec.restoring import Checkpoint, decode_checkpoint, open_checkpoint

__all__ = [
    "HEADER",
    "MAGIC",
    "Archive",
    "Checkpoint",
    "CheckpointFile",
    "CheckpointReport",
    "CodedTensor",
    "CodingReport",
    "coding_report",
    "decode",
    "decode_checkpoint",
    "encode",
    "encode_checkpoint",
    "open_checkpoint",
]
