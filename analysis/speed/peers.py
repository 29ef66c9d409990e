"""What peers and rows need that may be missing: data sets, and NNCodec in an environment of its own."""

import subprocess
from typing import TYPE_CHECKING

from analysis.speed.config import Config
from analysis.speed.timing import say

if TYPE_CHECKING:
    from analysis.lab.data.splits import DataSet


def read(name: str, config: Config) -> "DataSet | None":
    """A data set by name; none, which is said, where it is not there."""
    from analysis.lab.data.datasets import load
    from capacity import InputError

    try:
        return load(name, data=config.data)
    except InputError as error:
        say(f"skipped: {error}")
        return None


def has_nncodec(config: Config) -> bool:
    """Whether a Python with NNCodec is named; says so where not."""
    if not config.nncodec:
        say("skipped: NNCodec, which needs an older numpy: --nncodec PYTHON, of an environment that has it")
    return bool(config.nncodec)


def nncodec_bytes(python: str, script: str, *arguments: str) -> int:
    """The bytes that a script prints last, run by the Python that has NNCodec."""
    call = [python, "-c", script, *arguments]
    return int(subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()[-1])
