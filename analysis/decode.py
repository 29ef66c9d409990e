"""What `encode` packed, back: the same files, byte for byte, or one damaged or missing named."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from analysis.lab.cli import execute
from capacity.errors import InputError


@dataclass(frozen=True)
class Config:
    """Restore a packed checkpoint: safetensors byte for byte, state dicts of torch.save bit for bit."""

    source: tyro.conf.Positional[str] = ""
    """A file or folder that `encode` wrote."""
    output: str = ""
    """The file or folder that comes back; by default SOURCE without its .dcz, if nothing is there."""
    smoke: bool = False
    """Nothing is left out: it takes as long as the weights are large."""


def start(config: Config) -> None:
    """Restore, and say where."""
    from compression.codec import decode_checkpoint

    if not config.source:
        raise InputError("name what encode wrote: python -m analysis.decode FOLDER.dcz")
    source = Path(config.source)
    target = Path(config.output) if config.output else source.with_suffix("")
    if not config.output and (source.suffix != ".dcz" or target.exists()):
        raise InputError(f"name an --output: {target} is {'there' if target.exists() else 'the same'}")
    decode_checkpoint(source, target, on_progress=print)
    print(f"restored: {target}, every SHA-256 as it was")


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
