"""Ways in which a file is damaged, by accident or by someone who knows its format."""

import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Damage = Callable[[bytearray, random.Random], None]


def flip(content: bytearray, dice: random.Random) -> None:
    """Flip one bit, or a few."""
    for _ in range(dice.choice((1, 1, 1, 2, 8))):
        if content:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def zero(content: bytearray, dice: random.Random) -> None:
    """Zero a block, as a disk that lost a sector does."""
    start, size = dice.randrange(len(content) or 1), dice.choice((1, 8, 64, 512))
    content[start : start + size] = bytes(len(content[start : start + size]))


def cut(content: bytearray, dice: random.Random) -> None:
    """Keep a beginning."""
    del content[dice.randrange(len(content) or 1) :]


def extend(content: bytearray, dice: random.Random) -> None:
    """Add bytes at the end: zeros, noise, or itself again."""
    size = dice.choice((1, 7, 64, 4096))
    content += dice.choice((bytes(size), dice.randbytes(size), bytes(content)))


def overwrite(content: bytearray, dice: random.Random) -> None:
    """Put noise, or another part of the file, in place of a block."""
    start, size = dice.randrange(len(content) or 1), dice.choice((1, 2, 4, 8, 64))
    source = dice.randrange(len(content) or 1)
    block = dice.choice((dice.randbytes(size), bytes(content[source : source + size]), b"\xff" * size))
    content[start : start + len(block)] = block


def insert(content: bytearray, dice: random.Random) -> None:
    """Put noise between two bytes, or leave a block out."""
    start, size = dice.randrange(len(content) or 1), dice.choice((1, 4, 64))
    content[start : start + dice.choice((0, size))] = dice.choice((b"", dice.randbytes(size)))


BYTES: tuple[Damage, ...] = (flip, zero, cut, extend, overwrite, insert)
ODD_NUMBERS = (0, -1, 1, 3, 255, 999, 2**31, 2**63, 4_000_000_000, 10**30, 0.5, 1e-320, 1e300)
TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3")
ODD_VALUES: tuple[Any, ...] = (
    *ODD_NUMBERS,
    float("nan"),
    float("inf"),
    None,
    True,
    "",
    "x",
    "../x",
    "=1+1",
    [],
    {},
    [[]],
)


def change_json(facts: Any, dice: random.Random) -> Any:
    """Facts with one value, somewhere in them, another; or with a key more or fewer."""
    if isinstance(facts, dict) and facts and dice.random() < 0.9:
        key = dice.choice(sorted(facts, key=str))
        how = dice.randrange(8)
        if how == 0:
            return {other: value for other, value in facts.items() if other != key}
        if how == 1:
            return {**facts, dice.choice(("extra", "__class__", "model", "preset")): dice.choice(ODD_VALUES)}
        return {**facts, key: change_json(facts[key], dice)}
    if isinstance(facts, list) and facts and dice.random() < 0.8:
        place = dice.randrange(len(facts))
        return [*facts[:place], change_json(facts[place], dice), *facts[place + 1 :]]
    return dice.choice((*ODD_VALUES, facts, [facts], {"x": facts}))


def split_safetensors(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file; raises ValueError where it is none."""
    if len(content) < 8:
        raise ValueError("no header")
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size].decode()) if size < len(content) else None
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header, content[8 + size :]


def join_safetensors(header: Mapping[str, Any], data: bytes) -> bytes:
    """A safetensors file of header and data."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def change_header(content: bytearray, dice: random.Random) -> None:
    """Another type, shape, place or name of a tensor, more rows, or another fact."""
    header, data = split_safetensors(bytes(content))
    names = [name for name in header if name != "__metadata__"]
    name = dice.choice(names)
    entry = dict(header[name])
    how = dice.randrange(7)
    if how == 0:
        entry["dtype"] = dice.choice(TYPES)
    elif how == 1 and entry["shape"]:
        entry["shape"] = [*entry["shape"][:-1], dice.choice(ODD_NUMBERS)]
    elif how == 2:
        entry["data_offsets"] = [dice.choice((0, 1, 2**40, -1)), dice.choice((len(data), 0, 2**62))]
    elif how == 3 and entry["shape"]:
        row = (entry["data_offsets"][1] - entry["data_offsets"][0]) // max(1, entry["shape"][0])
        header[name + ".more"] = {**entry, "data_offsets": [len(data), len(data) + row],
                                  "shape": [1, *entry["shape"][1:]]}  # fmt: skip
        data += bytes(row)
    elif how == 4:
        header[dice.choice((name + "x", dice.choice(names), "", "a" * 300))] = header.pop(name)
    elif how == 5:
        header.pop(name)
    else:
        header["__metadata__"] = change_json(header.get("__metadata__", {}), dice)
    if name in header:
        header[name] = entry
    content[:] = join_safetensors(header, data)


def save_bytes(path: Path, content: bytes | bytearray) -> None:
    """Write a damaged file; links and locks that lie there are replaced."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
