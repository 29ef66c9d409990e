"""The search for the least guaranteed error: fixed features, whole numbers, what the test split decides."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from running import run_command

from analysis.certificate import EXPERIMENT, PRESETS, Config, headline, table
from analysis.certificate.config import candidates, channels_of, choices_of
from analysis.certificate.networks import FixedFeatures, IntegerNetwork, build, cells_of, mirror
from analysis.certificate.rounding import Rounding, Schedule, train_integers
from analysis.certificate.trials import Search
from analysis.lab.experiment import Cells
from analysis.lab.runs.loading import finished
from capacity import InputError, certificate
from capacity.columns import percent
from compression.codec import decode

ROOT = Path(__file__).parents[2]
TINY = Config(networks=("3", "3-4"), epochs=6, batch_size=100)


def silent(line: str) -> None:
    del line


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, pd.DataFrame]:
    config = replace(TINY, output=str(tmp_path_factory.mktemp("search") / "run"))
    return config, EXPERIMENT.run(config, silent)


def test_the_bound_pays_for_file_and_choices(tiny: tuple[Config, pd.DataFrame]) -> None:
    config, frame = tiny
    assert frame["kind"].tolist() == ["candidate", "candidate", "chosen"]
    for row in frame.to_dict("records"):
        path = Path(config.output) / f"network-{row['name']}.dcz"
        assert path.stat().st_size == row["file_bytes"]
        bound = certificate(row["training_errors"], 1437, row["file_bytes"], choices=2)
        assert row["top1_error_bound"] == bound.error_bound and row["code_bits"] == bound.code_bits
    assert (frame["training_samples"] == 1437).all()  # those held out for validation among them
    assert frame["top1_error"].notna().tolist() == [False, False, True]
    chosen = frame.iloc[-1]
    assert chosen["top1_error_bound"] == frame["top1_error_bound"].min() and chosen["total"] == 360
    assert chosen["training_error"] < 0.5  # of ten classes


def test_what_the_file_holds_are_whole_numbers(tiny: tuple[Config, pd.DataFrame]) -> None:
    config, frame = tiny
    chosen = frame.iloc[-1]
    blank = build(chosen["network"], (1, 8, 8), 10)
    weights = decode(Path(config.output) / f"network-{chosen['name']}.dcz", blank).state_dict()
    assert list(weights) == ["1.weights"] and len(weights["1.weights"]) == chosen["parameters"]
    assert torch.equal(weights["1.weights"], weights["1.weights"].round()) and weights["1.weights"].any()


def test_what_was_finished_is_not_computed_again(tiny: tuple[Config, pd.DataFrame]) -> None:
    config, frame = tiny
    folder = Path(config.output)
    first = folder / "network-3-0.6-seed0.dcz"
    before = first.stat().st_mtime_ns
    for name in ("results.csv", "network-chosen.json", "network-3-4-0.6-seed0.json"):
        (folder / name).unlink()
    said: list[str] = []
    again = EXPERIMENT.run(config, said.append)
    pd.testing.assert_frame_equal(again, frame)
    assert first.stat().st_mtime_ns == before and any("1 of 3 steps" in line for line in said)


def test_the_test_split_decides_nothing(tiny: tuple[Config, pd.DataFrame]) -> None:
    config, frame = tiny
    search = Search(config, lambda: EXPERIMENT.directory(config))
    wrong = replace(search.data.test, labels=(search.data.test.labels + 1) % 10)
    search.data = replace(search.data, test=wrong)
    (row,) = search.steps()["chosen"]()
    last = frame.iloc[-1]
    assert row["name"] == last["name"] and row["top1_error_bound"] == last["top1_error_bound"]
    assert row["top1_error"] > 0.5 > last["top1_error"]


def test_sentences_and_table(tiny: tuple[Config, pd.DataFrame]) -> None:
    config, frame = tiny
    EXPERIMENT.write(frame, config)
    best = frame.iloc[-1]
    lines = headline(frame, config)
    assert f"a file of {best['file_bytes']} bytes (network {best['network']}" in lines[0]
    assert "one of 2 choices (2 candidates x 1 before)" in lines[1] and len(lines) == 3
    assert "not looked at" in table(frame, config).text(wide=True)
    worse = frame.assign(top1_error=frame["top1_error"] + 1)
    assert "MORE than its bound" in headline(worse, config)[0] and "MORE" not in lines[0]
    run = finished(config.output)
    assert run.headline() == lines and run.story is not None and len(run.done()) == 3


def test_published_bounds_stand_beside_the_whole_data_only(tiny: tuple[Config, pd.DataFrame]) -> None:
    _, frame = tiny
    assert "11.6 % (Lotfi et al. 2022)" in headline(frame, PRESETS["mnist"])[-1]
    assert (
        "for cifar10 itself, these pictures are its JPEG version: 58.2 %"
        in headline(frame, PRESETS["cifar10"])[-1]
    )
    assert len(headline(frame, replace(PRESETS["mnist"], limit=100))) == 3


def test_choices_are_counted_from_what_is_declared() -> None:
    config = Config(networks=("3", "4-5"), fineness=(0.5, 1.0, 2.0), seeds=4, choices=5)
    assert len(candidates(config)) == 24 and choices_of(config) == 120


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 8), (1, 28), (3, 32), (1, 25)])
def test_features_of_a_mirror_image(channels: int, side: int) -> None:
    features = FixedFeatures((channels, side, side))
    pictures = torch.rand(3, channels, side, side)
    seen = features(pictures)
    cells = cells_of((channels, side, side))
    assert seen.shape == (3, 8 if channels == 1 else 14, cells, cells) and not features.state_dict()
    torch.testing.assert_close(features(pictures.flip(3)), mirror(seen), atol=1e-4, rtol=1e-4)


def test_features_see_directions() -> None:
    brighter = torch.arange(28.0).expand(28, 28)[None, None] / 28
    features = FixedFeatures((1, 28, 28))
    lower = brighter.mT
    for picture, direction in ((brighter, 0), (brighter.flip(3), 4), (lower, 2), (lower.flip(2), 6)):
        middle = features(picture)[0, :, 3, 3]
        assert int(middle.argmax()) == direction
        assert middle[direction - 1] == pytest.approx(float(middle[(direction + 1) % 8]), abs=1e-4)
    assert torch.isfinite(features(torch.zeros(1, 1, 28, 28))).all()


def test_grey_pictures_in_colour_have_no_colour() -> None:
    grey = torch.rand(2, 1, 32, 32).expand(2, 3, 32, 32)
    colour = FixedFeatures((3, 32, 32))(grey)[:, 8:]
    difference = colour - colour[:, 1:2, :1, :1]
    assert difference[:, [1, 2, 4, 5]].abs().max() < 1e-4 < difference[:, [0, 3]].abs().max()


def test_layers_and_sizes() -> None:
    network = IntegerNetwork("6-8", (8, 7), 10)
    assert network.shapes == [(6, 8, 3, 3), (8, 6, 3, 3), (10, 8, 2, 2)]
    assert len(network.weights) == 6 * 72 + 6 + 8 * 54 + 8 + 10 * 32 + 10
    assert IntegerNetwork("5", (8, 7), 10).shapes == [(5, 8, 3, 3), (10, 5, 5, 5)]
    three = IntegerNetwork("12-6-8", (14, 8), 10)
    assert three.shapes == [(12, 14, 1, 1), (6, 12, 3, 3), (8, 6, 3, 3), (10, 8, 2, 2)]
    assert three(torch.randn(5, 14, 8, 8)).shape == (5, 10)


@given(st.sampled_from([0.4, 1.0, 3.0]), st.integers(1, 40), st.integers(0, 5))
def test_weights_are_rounded_more_and_more(fineness: float, steps: int, seed: int) -> None:
    network = IntegerNetwork("2", (8, 5), 3)
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(network.weights, generator=generator)
    rounding = Rounding(network, fineness)
    for layer in network.weights.split(network.sizes):
        assert float(layer.detach().square().mean().sqrt()) == pytest.approx(fineness)
    before, counts = network.weights.detach().round(), []
    for step in range(steps):
        rounding.after(10 * step, step / steps)
        counts.append(int(rounding.fixed.sum()))
    rounding.finish()
    assert counts == sorted(counts) and counts[0] == 0
    assert torch.equal(network.weights.detach(), before)  # which nothing has trained meanwhile


def test_the_same_seed_gives_the_same_network() -> None:
    labels = torch.arange(300) % 2
    features = torch.randn(300, 8, 5, 5)
    features[:, 0] += 3 * labels[:, None, None]
    schedule = Schedule(epochs=20, batch_size=50, learning_rate=0.1, fineness=1.0, seed=3)

    def trained(seed: int) -> IntegerNetwork:
        return train_integers(IntegerNetwork("3", (8, 5), 2), features, labels, replace(schedule, seed=seed))

    one, same, other = trained(3), trained(3), trained(4)
    assert torch.equal(one.weights, same.weights) and not torch.equal(one.weights, other.weights)
    assert (one(features).argmax(1) == labels).float().mean() > 0.9


@pytest.mark.parametrize("name", ["", "6-", "-8", "6-8-9-2", "a", "6x8", "0-3", "1000"])
def test_names_of_networks(name: str) -> None:
    with pytest.raises(InputError, match="a network is written as 6-8"):
        channels_of(name)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"confidence": 1.0}, "confidence must lie between 0 and 1"),
        ({"networks": ()}, "networks must be different ones"),
        ({"fineness": (0.5, 0.5)}, "fineness must be different ones"),
        ({"fineness": (0.01,)}, "fineness must lie between 0.1 and 100"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)  # fmt: skip
def test_bad_settings(options: dict[str, object], text: str, tmp_path: Path) -> None:
    config = replace(TINY, output=str(tmp_path / "run"), **options)
    with pytest.raises(InputError, match=text):
        EXPERIMENT.run(config, silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shape", [(64,), (2, 8, 8), (1, 8, 7), (1, 13, 13)])
def test_samples_that_are_no_square_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"square pictures|multiple of"):
        cells_of(shape)


def test_rows_of_a_table_are_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    lines = [f"{number / 7},{number % 3},{'ab'[number % 2]}" for number in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y,label", *lines]))
    config = replace(TINY, dataset=f"table:{tmp_path / 'rows.csv'}", output=str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"for pictures; .* holds none"):
        EXPERIMENT.run(config, silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "shape", "target"),
    [("certificate-mnist", (1, 28, 28), 0.08), ("certificate-cifar10", (3, 32, 32), 0.58)],
)
def test_the_recorded_file_is_what_is_told_of_it(name: str, shape: tuple[int, ...], target: float) -> None:
    run = finished(ROOT / "paper" / "runs" / name)
    best = run.frame.iloc[-1]
    path = run.path / f"network-{best['name']}.dcz"
    assert path.stat().st_size == best["file_bytes"]
    weights = decode(path, build(best["network"], shape, 10)).state_dict()["1.weights"]
    assert len(weights) == best["parameters"] and torch.equal(weights, weights.round())
    errors, samples = int(best["training_errors"]), int(best["training_samples"])
    bound = certificate(errors, samples, path.stat().st_size, choices=choices_of(run.config))
    assert bound.error_bound == pytest.approx(best["top1_error_bound"], abs=1e-12)
    assert bound.error_bound < target
    told = " ".join((ROOT / "compression" / "README.md").read_text(encoding="utf-8").split())
    assert (
        f"a file of {best['file_bytes']} bytes ({best['parameters']:,} weights, "
        f"{percent(best['training_error'], 2)} of {samples:,} training samples wrong) guarantees at most "
        f"{percent(best['top1_error_bound'], 2)}, one of {best['choices']} choices paid for, and errs on "
        f"{percent(best['top1_error'], 2)} of the test"
    ) in told


def test_the_command_without_a_run_searches(tmp_path: Path) -> None:
    done = run_command("certificate", "--smoke", "--output", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "With confidence 0.95 a file of" in done.stdout and "quick pass" in done.stdout
    assert (tmp_path / "run" / "certificate.pdf").read_bytes().startswith(b"%PDF-")
    assert isinstance(EXPERIMENT.cells, Cells)
