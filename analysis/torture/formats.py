"""The formats of files: how a good one is made and read, and how an attacker mends its checksum."""

import hashlib
import json
import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from analysis.lab.data.features import feature_rows
from analysis.lab.data.splits import Split
from analysis.torture.mutations import (
    BYTES,
    Damage,
    change_header,
    change_json,
    join_safetensors,
    save_bytes,
    split_safetensors,
)
from analysis.torture.networks import SIZE, network, pictures
from compression.checkpoints import load_json, load_model, save_json, save_model
from compression.codec import decode, encode
from compression.distillation import teacher_outputs
from compression.identity import file_sha256, fingerprint_of
from compression.quantization import quantize
from compression.quantization.files import load_quantized, save_quantized
from compression.shrinking import load_shrunk, save_shrunk, shrink
from compression.shrinking.files import digest

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Format:
    """Files of one kind.

    Parameters
    ----------
    share: of all tries
    make: writes a good file into a folder; returns the path that is damaged
    read: a folder -> the values that a user gets, after one use of them
    damages: ways to damage the file, beside those of bytes
    mend: gives a damaged file the checksum that belongs to it, where there is one
    """

    name: str
    share: float
    make: Callable[[Path], Path]
    read: Callable[[Path], Values]
    damages: Sequence[Damage]
    mend: Callable[[Path], None]


def used(model: nn.Module) -> Values:
    """A model's tensors, after it was run once."""
    with torch.no_grad():
        model(torch.zeros(1, *SIZE))
    return dict(model.state_dict())


def _checkpoint(folder: Path) -> Path:
    save_model(network(1), folder / "model.safetensors")
    return folder / "model.safetensors"


def _shrunk(folder: Path) -> Path:
    save_shrunk(shrink(network(1), SIZE, amount=0.3).model, folder / "small.safetensors")
    return folder / "small.safetensors"


def _quantized(folder: Path) -> Path:
    made = quantize(network(1), scheme="static", input_size=SIZE, calibration=pictures())
    save_quantized(made, folder / "integers.safetensors")
    return folder / "integers.safetensors"


def _coded(folder: Path) -> Path:
    model = network(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4).round_().div_(4)
    encode(model, folder / "net.dcz")
    return folder / "net.dcz"


def _outputs(folder: Path) -> Path:
    teacher_outputs(network(1), pictures(), folder / "teacher.npy")
    return folder / "teacher.npy"


def mend_tensors(seal: Callable[[Values, Mapping[str, str]], str]) -> Callable[[Path], None]:
    """The SHA-256 of a safetensors file, which `seal` computes, written into its header."""

    def mend(path: Path) -> None:
        from safetensors.torch import load

        content = path.read_bytes()
        try:
            tensors, (header, data) = load(content), split_safetensors(content)
            facts = dict(header["__metadata__"])
            facts["sha256"] = seal(tensors, facts)
        except Exception:  # what is no safetensors file any more has no checksum
            return
        save_bytes(path, join_safetensors({**header, "__metadata__": facts}, data))

    return mend


def mend_coded(path: Path) -> None:
    """The CRC-32 of a .dcz file."""
    content = bytearray(path.read_bytes())
    if len(content) >= 12:
        content[4:8] = struct.pack("<I", zlib.crc32(content[8:]))
        save_bytes(path, content)


def mend_outputs(path: Path) -> None:
    """Size and SHA-256 of cached outputs, in the record beside them."""
    record = path.with_suffix(".json")
    facts = load_json(record)
    save_json(record, facts | {"file_bytes": path.stat().st_size, "file_sha256": file_sha256(path)})


def change_array(content: bytearray, dice: random.Random) -> None:
    """Another type, order or shape in the header of a .npy file, more rows, or values that are none."""
    how = dice.randrange(4)
    if how == 0:
        rows = np.frombuffer(bytes(content[128:]), np.float16).reshape(-1, 10)
        rows = np.concatenate([rows, rows[:1]]) if dice.random() < 0.5 else rows.astype(np.float32)
        content[:] = _npy(rows)
    elif how == 1:
        header = dice.choice(("|O", "<f8", "<i2", "|V2", "<U1", ">f2")), dice.choice((True, False))
        shape = dice.choice(((16, 10), (10, 16), (160,), (2**40, 10), (-1, 10), (16, 10, 1)))
        content[:] = _header(*header, shape) + content[128:]
    elif how == 2:
        place = 128 + 2 * dice.randrange(160)
        content[place : place + 2] = dice.choice((b"\x00\x7e", b"\x00\x7c"))
    else:
        content[6:8] = dice.choice((b"\x02\x00", b"\x03\x00", b"\x09\x09"))


def _header(kind: str, by_columns: bool, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': {by_columns}, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + f"{text:<117}\n".encode()


def _npy(rows: np.ndarray) -> bytes:
    return _header(rows.dtype.str, False, rows.shape) + rows.tobytes()


def change_quantized(content: bytearray, dice: random.Random) -> None:
    """Another scheme, width, range or name in what a quantized file says of itself."""
    header, data = split_safetensors(bytes(content))
    facts = json.loads(header["__metadata__"]["quantized"])
    header["__metadata__"]["quantized"] = json.dumps(change_json(facts, dice))
    content[:] = join_safetensors(header, data)


def change_sizes(content: bytearray, dice: random.Random) -> None:
    """Another size of a layer in what a shrunk file says of itself."""
    header, data = split_safetensors(bytes(content))
    sizes = json.loads(header["__metadata__"]["sizes"])
    header["__metadata__"]["sizes"] = json.dumps(change_json(sizes, dice))
    content[:] = join_safetensors(header, data)


def _features(folder: Path) -> Path:
    _of_features(folder)
    (path,) = folder.glob("*.npy")
    return path


def _of_features(folder: Path) -> Values:
    split = Split(pictures().inputs, pictures().targets)
    return {"rows": torch.from_numpy(np.array(feature_rows(network(1), split, folder, "train")))}


def mend_features(path: Path) -> None:
    """SHA-256 of features, in the record beside them."""
    record = path.with_suffix(".json")
    save_json(record, load_json(record) | {"sha256": file_sha256(path)})


def _of_rows(folder: Path) -> Values:
    return {
        "rows": torch.from_numpy(np.array(teacher_outputs(network(1), pictures(), folder / "teacher.npy")))
    }


FORMATS = (
    Format(
        "checkpoint", 0.34, _checkpoint,
        lambda folder: used(load_model(network(), folder / "model.safetensors", sealed=True)),
        (*BYTES, change_header),
        mend_tensors(lambda tensors, facts: fingerprint_of(tensors)),
    ),
    Format(
        "shrunk", 0.22, _shrunk,
        lambda folder: used(load_shrunk(network(), folder / "small.safetensors", input_size=SIZE).eval()),
        (*BYTES, change_header, change_sizes),
        mend_tensors(lambda tensors, facts: digest(facts["sizes"], tensors)),
    ),
    Format(
        "quantized", 0.02, _quantized,
        lambda folder: used(
            load_quantized(network(), folder / "integers.safetensors", input_size=SIZE)
        ),
        (*BYTES, change_header, change_quantized),
        mend_tensors(lambda tensors, facts: digest(facts["quantized"], tensors)),
    ),
    Format("teacher", 0.1, _outputs, _of_rows, (*BYTES, change_array), mend_outputs),
    Format("features", 0.1, _features, _of_features, (*BYTES, change_array), mend_features),
    Format(
        "dcz", 0.22, _coded, lambda folder: used(decode(folder / "net.dcz", network())), BYTES, mend_coded
    ),
)  # fmt: skip


def content_of(values: Values) -> str:
    """SHA-256 of values by name."""
    parts = hashlib.sha256()
    for name, tensor in sorted(values.items()):
        parts.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        parts.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return parts.hexdigest()
