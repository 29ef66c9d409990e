"""The small encoder and its text: torch's own layer, parameters by hand, what a comparison runs."""

from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from analysis.comparison import PRESETS, compare
from analysis.lab.data.datasets import DataSet, load
from analysis.lab.data.docstrings import LIBRARIES, MOST, WORDS, _first, _hashed
from analysis.lab.models import create
from analysis.lab.models.encoders import Block
from capacity import InputError


@pytest.fixture(scope="module")
def text() -> DataSet:
    return load("libraries")


def test_golden_parameters_by_hand() -> None:
    block = 4 * (96 * 96 + 96) + 96 * 384 + 384 + 384 * 96 + 96 + 2 * 2 * 96
    model = create("tiny_bert", input_size=(32,), classes=4)
    wanted = 1_024 * 96 + 32 * 96 + 2 * 96 + 2 * block + 96 * 96 + 96 + 4 * 97
    assert sum(p.numel() for p in model.parameters()) == wanted == 334_948
    with pytest.raises(InputError, match=r"tiny_bert reads sequences of ids, as --dataset libraries has"):
        create("tiny_bert", input_size=(1, 8, 8), classes=10)


def test_a_block_is_torch_s_encoder_layer() -> None:
    torch.manual_seed(0)
    block, x = Block(96, 3, 384).eval(), torch.randn(2, 7, 96)
    theirs = nn.TransformerEncoderLayer(96, 3, 384, activation="gelu", batch_first=True).eval()
    attention = block.attention
    joined = [attention.queries, attention.keys, attention.values]
    pairs = {
        theirs.self_attn.in_proj_weight: torch.cat([layer.weight for layer in joined]),
        theirs.self_attn.in_proj_bias: torch.cat([layer.bias for layer in joined]),
    }
    with torch.no_grad():
        for parameter, values in pairs.items():
            parameter.copy_(values)
        for ours, other in (
            (attention.outputs, theirs.self_attn.out_proj),
            (block.wide, theirs.linear1),
            (block.narrow, theirs.linear2),
            (block.first_norm, theirs.norm1),
            (block.second_norm, theirs.norm2),
        ):
            other.load_state_dict(ours.state_dict())
        torch.testing.assert_close(block(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_each_library_has_as_many_samples_and_each_split_some_of_all(text: DataSet) -> None:
    parts = (text.train, text.validation, text.test)
    assert text.classes == tuple(LIBRARIES) and text.shape == (WORDS,)
    counts = sum(torch.bincount(part.labels, minlength=4) for part in parts)
    assert torch.equal(counts, torch.full((4,), MOST))
    assert all(int(torch.bincount(part.labels, minlength=4).min()) > 100 for part in parts)
    assert 0.2 <= len(text.test) / (4 * MOST) < 0.3


@given(st.text(alphabet="ab C.\n", max_size=300))
def test_words_are_hashed_in_small_letters_in_their_order(text: str) -> None:
    words = text.lower().replace(".", " ").split()
    found = _hashed(text)
    assert found.shape == (len(words) // WORDS, WORDS)
    assert found.flatten().tolist() == [crc32(word.encode()) % 1_024 for word in words][: found.size]


@given(st.lists(st.integers(1, 9), max_size=8), st.integers(0, 40))
def test_the_first_samples_of_the_first_files(sizes: list[int], count: int) -> None:
    files = [np.full((size, 1), k) for k, size in enumerate(sizes)]
    every = [int(row[0]) for one in files for row in one]
    assert [int(row[0]) for one in _first(files, count) for row in one] == every[:count]


def test_the_preset_shrinks_and_codes(tmp_path: Path) -> None:
    config = replace(
        PRESETS["tiny-bert"], smoke=True, limit=48, repeats=2, calibration=8, output=str(tmp_path / "run"),
        techniques=("shrunk", "feedback-coded"),
    )  # fmt: skip
    frame, failures = compare(config)
    rows = frame.set_index("technique")
    assert not failures and list(rows.index) == ["baseline", "shrunk", "feedback-coded"]
    assert rows.loc["shrunk", "parameters"] < 0.75 * rows.loc["baseline", "parameters"]
    assert rows.loc["shrunk", "file_bytes"] < 0.75 * rows.loc["baseline", "file_bytes"]
    assert rows.loc["feedback-coded", "coded_bytes"] < 0.6 * rows.loc["baseline", "coded_bytes"]
