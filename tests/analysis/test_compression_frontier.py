"""Error against bytes through the real entry point: files that decode, kills, records, bad input."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from resuming import computed, killed_and_resumed, same_files
from running import ends_in_one_line

from analysis.compression_frontier import PRESETS, Config, headline, main, plot, summary, table
from analysis.compression_frontier.trials import living_part, placed_in
from analysis.lab.data.datasets import load
from analysis.lab.models import create
from compression.codec import decode
from compression.criteria import L1
from compression.evaluation import evaluate
from compression.pruning import prune
from compression.shrinking import mask_dead_norm_channels, zero_dead_parameters

SMALL = [
    "--seeds", "1", "--epochs", "2", "--prune-epochs", "2", "--code-epochs", "1", "--densities", "0.3", "0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder, text = computed(tmp_path_factory, "compression_frontier", *SMALL)
    assert "code books" in text
    return folder


def test_the_run_folder(undisturbed: Path) -> None:
    files = {path.name for path in undisturbed.iterdir()}
    assert files >= {"results.csv", "summary.csv", "table.tex", "compression_frontier.pdf"}
    frame = pd.read_csv(undisturbed / "results.csv").set_index(["method", "density"])
    assert list(frame.index) == [("dense", 1.0)] + [
        (method, density) for density in (0.3, 0.1) for method in ("pruned", "rate", "shared")
    ]
    assert frame.loc[("dense", 1.0), "dense_bytes"] == 4 * 99_530
    for (_, density), row in frame.iterrows():
        assert row["nonzero_parameters"] <= 98_944 * density + 587
        assert row["compression_ratio"] == pytest.approx(row["dense_bytes"] / row["file_bytes"])
    assert frame.loc[("rate", 0.1), "file_bytes"] < frame.loc[("pruned", 0.1), "file_bytes"] / 3


def test_the_error_is_that_of_the_file(undisturbed: Path) -> None:
    frame = pd.read_csv(undisturbed / "results.csv").set_index(["method", "density"])
    torch.manual_seed(5)
    fresh = create("mlp", input_size=(1, 8, 8), classes=10)
    for method in ("rate", "shared"):
        path = undisturbed / "seed-0" / f"{method}-0.1.dcz"
        found = evaluate(decode(path, fresh), load("digits").test.batches(1000))
        assert path.stat().st_size == frame.loc[(method, 0.1), "file_bytes"]
        assert found.top1_error == frame.loc[(method, 0.1), "top1_error"]


def test_killed_and_resumed_it_gives_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    killed_and_resumed("compression_frontier", *SMALL, folder=folder, at="seed-0/rate-0.3.json")
    same_files(folder, undisturbed, "results.csv", "compression_frontier.pdf", "seed-0/rate-0.1.dcz")


def frame_of(model: str = "lenet300") -> tuple[pd.DataFrame, Config]:
    config = PRESETS[model]
    rows = [
        {"seed": seed, "method": method, "density": density, "top1_error": error + 1e-4 * seed,
         "dense_bytes": 1_066_440, "file_bytes": size, "compression_ratio": 1_066_440 / size, "total": 10_000,
         "entropy_bytes": size, "book_bytes": 9, "bias_bytes": 50.0, "nonzero_parameters": 4_000,
         "capacity_bits": 4_000, "points_of_all_per_bit": 17.0}
        for seed in range(3)
        for method, density, error, size in (
            ("dense", 1.0, 0.010, 1_066_440), ("rate", 0.015, 0.015, 4_300), ("rate", 0.01, 0.0185, 3_000)
        )
    ]  # fmt: skip
    return pd.DataFrame(rows), config


def test_published_records_beside_ours() -> None:
    frame, config = frame_of()
    said = "\n".join(headline(frame, config))
    assert "Deep Compression: 40x at 1.58 %; ours 248x at 1.51 % (rate, 1.5 % kept): better" in said
    assert "soft weight-sharing: 64x at 1.94 %; ours 355x" in said
    worse = frame.assign(top1_error=frame["top1_error"] + 0.1)
    assert ": worse" in "\n".join(headline(worse, config))
    one = "\n".join(headline(frame[frame["seed"] == 0], config))
    assert "one seed: no verdict" in one and ": better" not in one
    assert len(summary(frame)) == 3 and "ratio" in str(table(frame))
    labels = [text.get_text() for text in plot(frame, config).legends[0].get_texts()]
    assert "published: Deep Compression" in labels and len(labels) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--densities", "0.1", "0.3"], "descending"),
        (["--densities", "1.5"], "between 0 and 1"),
        (["--prune-until", "0"], "share of the epochs"),
        (["--penalty", "-1"], "must not be negative"),
        (["--bits", "0"], "between 1 and 12"),
        (["--seeds", "0"], "at least 1"),
        (["--dataset", "imagefolder:/nowhere"], "not a folder"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_is_written(arguments, message, tmp_path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)


@pytest.mark.parametrize(
    ("name", "size"), [("lenet5", (1, 28, 28)), ("resnet20", (3, 32, 32)), ("mlp", (1, 8, 8))]
)
def test_living_units_are_a_network_of_their_own_and_come_back(name: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = create(name, input_size=size, classes=10).eval()
    pruned = prune(model, L1(center="zero"), amount=0.4, unit="neuron", scope="layer", input_size=size).model
    living = zero_dead_parameters(mask_dead_norm_channels(pruned, size), size)
    small = living_part(living, size)
    assert sum(p.numel() for p in small.parameters()) < 0.7 * sum(p.numel() for p in living.parameters())
    placed, given = placed_in(living, small), torch.randn(4, *size)
    with torch.no_grad():
        assert torch.allclose(placed.eval()(given), living.eval()(given), atol=1e-5)
    assert {n: t.shape for n, t in placed.state_dict().items()} == {
        n: t.shape for n, t in living.state_dict().items()
    }
    assert living_part(model, size) is model  # none is silent
