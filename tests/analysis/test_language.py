"""The language model and its text: what it may see, how positions turn, and what a comparison says of it."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from analysis.comparison import PRESETS, compare, headline, plot, table
from analysis.comparison.report import claims
from analysis.lab.data.datasets import DataSet, load
from analysis.lab.data.docstrings import ALPHABET, LENGTH, _parted, _windows
from analysis.lab.models import create
from analysis.lab.models.language import RotaryAttention
from capacity import InputError
from compression import evaluate

SMALL = replace(
    PRESETS["tiny-llm"], smoke=True, limit=24, techniques=("magnitude", "wanda"), repeats=2, calibration=8
)


@pytest.fixture(scope="module")
def text() -> DataSet:
    return load("docstrings")


def model(length: int = 16) -> torch.nn.Module:
    torch.manual_seed(0)
    return create("tiny_llama", input_size=(length,), classes=96).eval()


def test_golden_parameters_by_hand() -> None:
    block = 4 * 96 * 96 + 3 * 96 * 256 + 2 * 96
    assert sum(p.numel() for p in model().parameters()) == 2 * 96 * 96 + 3 * block + 96 == 350_880


def test_no_logit_depends_on_a_later_character() -> None:
    network, ids = model(), torch.randint(96, (1, 16), generator=torch.Generator().manual_seed(1))
    other = ids.clone()
    other[0, 9] = (other[0, 9] + 1) % 96
    before, after = network(ids), network(other)
    assert torch.equal(before[0, :9], after[0, :9])
    assert not torch.allclose(before[0, 9:], after[0, 9:])


def test_positions_turn_as_complex_numbers_do() -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(1, 3, 16, 32, dtype=torch.float64), RotaryAttention(96, 3, 16)
    turned = layer.turned(x)
    rates = 10_000.0 ** (-torch.arange(16, dtype=torch.float64) / 16)
    angles = torch.arange(16, dtype=torch.float64)[:, None] * rates
    expected = torch.complex(x[..., :16], x[..., 16:]) * torch.polar(torch.ones_like(angles), angles)
    assert torch.allclose(turned, torch.cat([expected.real, expected.imag], -1), atol=1e-5)


def test_a_picture_is_no_sequence() -> None:
    with pytest.raises(InputError, match="reads sequences of ids"):
        create("tiny_llama", input_size=(1, 8, 8), classes=10)


def test_docstrings_are_split_by_file_and_labels_are_what_follows(text: DataSet) -> None:
    data = text
    parts = (data.train, data.validation, data.test)
    assert data.shape == (LENGTH,) and data.classes == tuple(ALPHABET) and len(data.classes) == 96
    for part in parts:
        assert torch.equal(part.inputs[:, 1:], part.labels[:, :-1])
    total = sum(map(len, parts))
    assert total > 10_000 and 0.2 <= len(data.test) / total < 0.4 and len(data.validation) > 0.05 * total
    assert "array" in "".join(data.classes[k] for k in data.test.inputs[:40].flatten())


@given(st.text(max_size=3 * LENGTH))
def test_windows_follow_one_another(text: str) -> None:
    windows = _windows(text)
    assert windows.shape == (max(0, (len(text) - 1) // LENGTH), LENGTH + 1)
    known = [letter if letter in ALPHABET else "?" for letter in text]
    for place, window in enumerate(windows):
        start = place * LENGTH
        assert [ALPHABET[k] for k in window] == known[start : start + LENGTH + 1]


@given(st.lists(st.integers(1, 9), min_size=3, max_size=20), st.floats(0.01, 0.9))
def test_every_text_is_in_one_part(sizes: list[int], validation: float) -> None:
    texts = [torch.full((size, 1), k).numpy() for k, size in enumerate(sizes)]
    parts = _parted(texts, validation)
    assert sorted(int(text[0, 0]) for part in parts for text in part) == list(range(len(sizes)))
    assert all(parts) and len(parts) == 3


def frame(**perplexities: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"technique": name.replace("_", "-"), "seed": seed, "perplexity": value}
            for name, values in perplexities.items()
            for seed, value in enumerate(values)
        ]
    )


def test_what_others_found_is_judged_by_what_was_measured() -> None:
    found = frame(magnitude=[6.0, 6.1, 6.2], wanda=[5.5, 5.6, 5.7], feedback_pruned=[5.4, 5.6, 5.8])
    wanda, feedback = claims(found)
    assert wanda == "perplexity of wanda beside magnitude: better (-0.500)"
    assert feedback.startswith("perplexity of feedback-pruned beside wanda: cannot be told apart")
    reversed_ = frame(magnitude=[5.5, 5.6, 5.7], wanda=[6.0, 6.1, 6.2])
    assert claims(reversed_) == ["perplexity of wanda beside magnitude: worse (+0.500)"]
    assert "quick pass: no verdict" in claims(found, quick=True)[0]
    assert claims(found.rename(columns={"perplexity": "top1_error"})) == []


def test_the_preset_measures_perplexity_beside_bytes_and_operations(tmp_path: Path) -> None:
    found, failures = compare(replace(SMALL, output=str(tmp_path / "run")))
    assert not failures and list(found["technique"]) == ["baseline", "magnitude", "wanda"]
    assert found["perplexity"].tolist() == pytest.approx([math.exp(x) for x in found["cross_entropy_nats"]])
    assert (found["total"] == 24 * LENGTH).all() and "right" not in found
    dense = found.set_index("technique").loc["baseline"]
    products = 96 * 96 + 4 * 96 * 96 + 3 * 96 * 256  # of one block, in a quick pass
    attention = 2 * 3 * LENGTH * LENGTH * 32
    assert dense["flops"] == 2 * (LENGTH * products + attention)
    said = "\n".join(headline(found, replace(SMALL, output=str(tmp_path / "run"))))
    assert "perplexity of wanda beside magnitude: quick pass: no verdict" in said
    assert plot(found, SMALL).axes[0].get_ylabel() == "perplexity"
    shown = table(found).text(wide=True)
    assert "perplexity - baseline" in shown and "perplexity  " in shown


def test_perplexity_is_the_exponential_of_the_mean_cross_entropy_by_hand(text: DataSet) -> None:
    network, data = model(LENGTH), text.test.take(slice(0, 4))
    logits = network(data.inputs)
    by_hand = math.exp(-float(F.log_softmax(logits, -1).gather(2, data.labels[..., None]).detach().mean()))
    scored = evaluate(network, data.batches(2)).cross_entropy_nats
    assert math.exp(scored) == pytest.approx(by_hand, rel=1e-5)
