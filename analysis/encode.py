"""A checkpoint without loss: a file or folder of weights packed, verified by hash, read by the layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from analysis.lab.cli import execute
from capacity.errors import InputError


@dataclass(frozen=True)
class Config:
    """Pack safetensors files and plain state dicts of torch.save, alone or in a folder, shard by shard."""

    source: tyro.conf.Positional[str] = ""
    """A file or folder of weights."""
    output: str = ""
    """The packed file or folder; by default SOURCE.dcz."""
    wide: bool = False
    """All columns of the table, however wide."""
    smoke: bool = False
    """Nothing is left out: it takes as long as the weights are large."""


def start(config: Config) -> None:
    """Pack, verify, and print what each file takes."""
    from capacity.terminal import broken, printable
    from compression.codec import encode_checkpoint

    if not config.source:
        raise InputError("name a file or folder of weights: python -m analysis.encode FOLDER")
    target = Path(config.output or f"{Path(config.source)}.dcz")
    report = encode_checkpoint(config.source, target, on_progress=print)
    print(f"\n{report.table().text(wide=config.wide)}\n")
    print(printable(broken(f"written: {target}, every bit compared; python -m analysis.decode {target}")))


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
