"""A few damaged files of every format; and that the harness sees what is read wrong."""

import dataclasses

import pytest
import torch

from analysis.torture.clock import Late, in_time
from analysis.torture.files import MOST_SECONDS, try_format
from analysis.torture.formats import FORMATS


@pytest.mark.parametrize("format", FORMATS, ids=[each.name for each in FORMATS])
def test_damaged_files_are_refused_or_read_as_they_were(format) -> None:
    found = try_format(format, 6 if format.name == "quantized" else 60, seed=0)
    assert found.failed == 0, found.failures
    assert found.counts["refused"] > 0 and found.longest_seconds < MOST_SECONDS
    assert sum(found.counts.values()) == sum(
        found.counts.get(name, 0) for name in ("refused", "same", "another")
    )


def test_every_share_is_counted() -> None:
    assert sum(format.share for format in FORMATS) == pytest.approx(1)


def test_the_harness_sees_what_is_wrong(tmp_path) -> None:
    whole = next(format for format in FORMATS if format.name == "dcz")

    def careless(folder):
        content = bytearray((folder / "net.dcz").read_bytes())
        return {"bytes": torch.frombuffer(content, dtype=torch.uint8)}

    found = try_format(dataclasses.replace(whole, read=careless), 20, seed=0)
    assert found.failed == found.counts["wrong"] + found.counts.get("raw", 0) > 0

    def raw(folder):
        if (folder / "net.dcz").read_bytes() != good:
            raise KeyError("x")
        return {}

    good = whole.make(tmp_path).read_bytes()
    assert try_format(dataclasses.replace(whole, read=raw), 9, seed=0).counts["raw"] > 0


def test_what_takes_too_long_is_interrupted() -> None:
    with pytest.raises(Late), in_time(0.05):
        while True:
            pass
