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

__all__ = ["HEADER", "MAGIC", "CodedTensor", "CodingReport", "coding_report", "decode", "encode"]
