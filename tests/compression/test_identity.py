"""Content decides: equal content in another process is the same, each changed leaf is another."""

import array
import collections
import contextlib
import datetime
import functools
import importlib
import json
import logging
import operator
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from os import environ
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from running import call_of, run_command
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import capacity
import compression
from capacity import InputError
from compression.batches import TensorBatches
from compression.checkpoints import metrics_of
from compression.codec import encode
from compression.criteria import L1, L2
from compression.identity import changed_parts, compare, describe, unknown_parts
from compression.quantization import quantize, save_quantized
from compression.recipes import recipe
from compression.schedules import GradualPruning
from compression.shrinking import shrink
from compression.squeezing import squeeze
from compression.techniques import pruning
from compression.training import TrainingSettings, fit

DATA = TensorBatches(torch.randn(30, 5, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 3, 10)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def training(epochs: int):  # type: ignore[no-untyped-def]
    return lambda model: fit(model, DATA, settings=TrainingSettings(epochs=epochs))


def score(model: nn.Module) -> dict[str, float]:
    return {"weights": float(sum(p.abs().sum() for p in model.parameters()))}


def other_score(model: nn.Module) -> dict[str, float]:
    return {"weights": 2 * float(sum(p.abs().sum() for p in model.parameters()))}


@given(VALUES, VALUES)
@settings(max_examples=200, deadline=None)
def test_equal_content_and_only_that_is_the_same(one: object, two: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (describe(value=one) == describe(value=two)) == same
    assert describe(value=one) == describe(value=json.loads(json.dumps(one)))


@given(st.integers(0, 14), st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_every_bit_of_a_tensor_counts(place: int, bit: int) -> None:
    tensor = torch.arange(15, dtype=torch.uint8)
    other = tensor.clone()
    other[place] ^= 1 << bit
    assert describe(t=tensor) == describe(t=tensor.clone()) != describe(t=other)
    assert describe(t=tensor) != describe(t=tensor.to(torch.int16))
    assert describe(t=tensor) != describe(t=tensor.view(3, 5))


@pytest.mark.parametrize(
    ("one", "two", "part"),
    [
        (training(3), training(4), "f.epochs (3 stored, 4 asked for)"),
        (len, sum, "f (builtins.len stored, builtins.sum asked for)"),
        (L1(), L1("zero"), "f.center ('mean' stored, 'zero' asked for)"),
        (L1(), L2(), "f (compression.criteria.L1 stored, compression.criteria.L2 asked for)"),
        (
            functools.partial(fit, settings=TrainingSettings(seed=1)),
            functools.partial(fit, settings=TrainingSettings(seed=2)),
            "f.arguments.settings.seed (1 stored, 2 asked for)",
        ),
        (
            GradualPruning(L1(), 0.5, 3),
            GradualPruning(L1(), 0.6, 3),
            "f.final_sparsity (0.5 stored, 0.6 asked for)",
        ),
        (pruning(amount=0.3), pruning(amount=0.9), "f.apply.amount (0.3 stored, 0.9 asked for)"),
        (DATA, replace(DATA, targets=(torch.arange(30) + 1) % 3), "f.targets"),
        (np.arange(3), np.arange(3) + 1, "f"),
        (nn.Sequential(nn.Dropout(0.1)), nn.Sequential(nn.Dropout(0.2)),
         "f.architecture, f.settings.0.p (0.1 stored, 0.2 asked for)"),
        (DataLoader(TensorDataset(torch.zeros(4)), batch_size=2),
         DataLoader(TensorDataset(torch.ones(4)), batch_size=2), "f.dataset.tensors.0"),
        (nn.BatchNorm1d(2), nn.BatchNorm1d(2, eps=0.1),
         "f.architecture, f.settings.eps (1e-05 stored, 0.1 asked for)"),
    ],
)  # fmt: skip
def test_what_differs_is_named(one: object, two: object, part: str) -> None:
    assert describe(f=one) == describe(f=one)
    assert ", ".join(compare(describe(f=one), describe(f=two))) == part


class Scaled(nn.Module):
    """A network with a setting that neither its weights nor its words show."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.inner, self.rate = nn.Identity(), rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.rate


def hooked(rate: float) -> nn.Module:
    model = nn.Identity()
    model.register_forward_hook(lambda module, inputs, output: output * rate)
    return model


def buffered(value: float) -> nn.Module:
    model = nn.Identity()
    model.register_buffer("scale", torch.tensor(value), persistent=False)
    return model


def frozen(flag: bool) -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(2)).requires_grad_(not flag)


def ordered(*rows: int) -> DataLoader:
    return DataLoader(TensorDataset(torch.zeros(9)), sampler=SubsetRandomSampler(rows))


def source(text: str, name: str = "Kind") -> object:
    space: dict[str, object] = {"__name__": "somewhere"}
    exec(text, space)
    return space[name]


def masked_array(*mask: bool) -> np.ndarray:
    return np.ma.MaskedArray([1, 2], mask=mask)


def sparse(value: float) -> torch.Tensor:
    dense = torch.eye(64)  # of more numbers than a tensor prints
    dense[32, 32] = value
    return dense.to_sparse()


def repeating(times: int) -> object:
    class Repeat:
        """A decorator that says it is what it decorates."""

        def __init__(self, function: object) -> None:
            functools.update_wrapper(self, function)  # type: ignore[arg-type]
            self.function, self.times = function, times

        def __call__(self, model: nn.Module) -> nn.Module:
            return model

    return Repeat(score)


class Locked:
    """A trainer with a part that cannot be known."""

    def __init__(self, rate: float) -> None:
        self.rate, self.lock = rate, threading.Lock()


@pytest.mark.parametrize(
    ("make", "one", "two"),
    [
        (Scaled, 1.0, 2.0),
        (hooked, 1.0, 2.0),
        (buffered, 1.0, 2.0),
        (frozen, True, False),
        (lambda mode: nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).train(mode)), True, False),
        (lambda s: nn.CrossEntropyLoss(label_smoothing=s), 0.0, 0.1),
        (lambda b: nn.SmoothL1Loss(beta=b), 1.0, 2.0),
        (lambda act: nn.TransformerEncoderLayer(2, 1, 2, activation=act, device="meta"), "relu", "gelu"),
        (ordered, 1, 2),
        (lambda w: DataLoader([1, 2], sampler=WeightedRandomSampler([1.0, w], 2)), 1.0, 2.0),
        (lambda n: DataLoader([1, 2, 3], batch_sampler=BatchSampler([0, 1, 2], n, False)), 2, 3),
        (lambda v: pd.DataFrame({"a": [1, 2], "b": ["x", v]}), "y", "z"),
        (lambda v: pd.Series([1, v]), 2, 3),
        (random.Random, 1, 2),
        (np.random.default_rng, 1, 2),
        (operator.itemgetter, 0, 1),
        (lambda d: collections.deque([d]), 1, 2),
        (lambda d: datetime.date(2020, 1, d), 1, 2),
        (lambda v: np.array([np.full(2000, 0), np.r_[np.zeros(1000), v]], dtype=object), 1, 2),
        (lambda d: np.array([d], dtype="datetime64[D]"), "2020-01-01", "2020-01-02"),
        (masked_array, True, False),
        (sparse, 2.0, 3.0),
        (lambda v: [v].count, 1, 2),
        (lambda f: collections.defaultdict(f), int, list),
        (lambda v: source(f"class Kind(dict): rate = {v}")(), 1, 2),  # type: ignore[operator]
        (lambda v: source(f"class Base:\n  def f(self): return {v}\nclass Kind(Base): pass")(), 1, 2),  # type: ignore[operator]
        (lambda v: source(f"RATE = {v}\nclass Kind:\n  def __call__(self, m): return m * RATE")(), 1, 2),  # type: ignore[operator]
        (lambda v: source(f"import enum\nclass Kind(enum.Enum):\n  A = {v}").A, 1, 2),  # type: ignore[attr-defined]
        (lambda v: source(f"class Kind:\n  @property\n  def a(self): return {v}")(), 1, 2),  # type: ignore[operator]
        (repeating, 1, 2),
        (Locked, 1, 2),
        (lambda v: Image.fromarray(np.full((2, 2), v, np.uint8)), 1, 2),
        (lambda v: array.array("i", [v]), 1, 2),
    ],
)  # fmt: skip
def test_content_that_does_not_show(make, one: object, two: object) -> None:  # type: ignore[no-untyped-def]
    assert describe(f=make(one)) == describe(f=make(one))
    assert compare(describe(f=make(one)), describe(f=make(two)))


def test_what_a_forward_pass_leaves_behind_is_no_setting() -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rate, self.last = 2.0, None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last = x * self.rate
            return self.last

    model = Watched()
    before = describe(f=model)
    model(torch.ones(2))
    model._note_of_a_trainer = True  # type: ignore[assignment]
    assert describe(f=model) == before
    model.rate = 3.0
    assert compare(before, describe(f=model)) == ["f.settings.rate (2.0 stored, 3.0 asked for)"]


def test_a_wrapper_that_says_it_is_another_function_counts() -> None:
    def wrapped(times: int):  # type: ignore[no-untyped-def]
        @functools.wraps(score)
        def once(model: nn.Module) -> object:
            return score(model)

        @functools.wraps(score)
        def twice(model: nn.Module) -> object:
            return score(model), score(model)

        return (once, twice)[times - 1]

    assert compare(describe(f=wrapped(1)), describe(f=wrapped(2)))


def test_modules_of_the_users_own_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_name(model: object) -> object:
        return own_recipe.train(model)  # type: ignore[name-defined]  # noqa: F821

    def inside(model: object) -> object:
        from own_recipe import train  # type: ignore[import-not-found]

        return train(model)

    (tmp_path / "own_recipe.py").write_text("import own_rates\ndef train(m): return m * own_rates.RATE\n")
    (tmp_path / "own_rates.py").write_text("RATE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(by_name.__globals__, "own_recipe", importlib.import_module("own_recipe"))
    before = [describe(f=by_name), describe(f=inside)]
    (tmp_path / "own_rates.py").write_text("RATE = 22\n")
    assert compare(before[1], describe(f=inside)) == ["f.import own_rates"]
    monkeypatch.setattr(sys.modules["own_rates"], "RATE", 2)
    assert compare(before[0], describe(f=by_name)) == [
        "f.own_recipe.train.own_rates.RATE (1 stored, 2 asked for)"
    ]


def test_pictures_of_the_same_size_count(tmp_path: Path) -> None:
    class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.paths = sorted(tmp_path.glob("*.bin"))

        def __getitem__(self, place: int) -> bytes:
            return self.paths[place].read_bytes()

    (tmp_path / "a.bin").write_bytes(b"1")
    before = describe(f=Pictures())
    assert before == describe(f=Pictures())
    (tmp_path / "a.bin").write_bytes(b"2")
    assert compare(before, describe(f=Pictures())) == ["f.paths files"]


def test_globals_that_a_function_reads_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def reads(model: nn.Module) -> int:
        return len(DATA)

    before = describe(f=reads)
    monkeypatch.setitem(reads.__globals__, "DATA", replace(DATA, batch_size=5))
    assert compare(before, describe(f=reads)) == ["f.DATA.batch_size (10 stored, 5 asked for)"]


def test_what_cannot_be_known_is_named(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        found = describe(f=lambda model: file.write("x"), g=(i for i in range(3)))
    assert unknown_parts(found) == ["f.file", "g"]


@pytest.mark.parametrize(
    "reads",
    [
        lambda model: os.environ["RATE_OF_A_TEST"],
        lambda model: os.getenv("RATE_OF_A_TEST", "0.1"),
        lambda model: [environ.get(name) for name in ("RATE_OF_A_TEST",)] and "RATE_OF_A_TEST" in environ,
    ],
)
def test_variables_of_the_environment_that_a_function_reads_count(
    reads: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RATE_OF_A_TEST", raising=False)
    before = describe(f=reads)
    monkeypatch.setenv("RATE_OF_A_TEST", "0.5")
    assert compare(before, describe(f=reads)) == ["f.environment RATE_OF_A_TEST"]
    assert "0.5" not in str(describe(f=reads))  # it may be a secret


def test_the_environment_as_a_whole_is_named_as_unknown() -> None:
    assert unknown_parts(describe(f=lambda model: dict(os.environ))) == ["f.environment"]


def test_functions_of_the_package_are_known() -> None:
    """Whoever retrains with `fit` and scores with `measure` is told of nothing that cannot be compared."""
    for package in (capacity, compression):
        for name in package.__all__:
            assert unknown_parts(describe(f=getattr(package, name))) == [], name


def test_a_context_that_decorates_counts_by_its_function_and_arguments() -> None:
    @contextlib.contextmanager
    def seeded(seed: int) -> Iterator[None]:
        yield

    def score_with(seed: int) -> Callable[[nn.Module], float]:
        @seeded(seed)
        def scored(model: nn.Module) -> float:
            return 1.0

        return scored

    before = describe(f=score_with(1))
    assert unknown_parts(before) == [] and before == describe(f=score_with(1))
    (part,) = compare(before, describe(f=score_with(2)))
    assert "(1 stored, 2 asked for)" in part


def test_cycles_end() -> None:
    ring: list[object] = [1]
    ring.append(ring)
    assert describe(ring=ring) == {"ring.0": "1", "ring.1": "itself"}


def test_a_list_that_grew_is_the_part_that_changed() -> None:
    assert changed_parts(describe(f=[]), describe(f=["x"])) == ["f"]
    assert changed_parts(describe(f={"n": 1, "m": 2}), describe(f={"n": 3, "m": 2})) == ["f.n"]


CODE = """
import sys, torch
from torch import nn
from compression.identity import describe
def make(rate):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(2, 2)
        def forward(self, x):
            return self.f(x) * rate
    return Net()
torch.manual_seed(0)
print(describe(model=make(2), f=lambda m: make(float(len(str(m)))), kinds={1, 2, 'a'}, rate=0.1,
    known=lambda m: m in {'a', 'b', 'c', 'd'}, by={make: 1}, compiled=torch.compile(lambda x: x + 1)))
"""


def test_two_processes_agree(tmp_path: Path) -> None:
    """The order of sets differs from one start of Python to another; the second is forked from a third."""
    (tmp_path / "script.py").write_text(CODE)
    one = subprocess.run(call_of(str(tmp_path / "script.py")), capture_output=True, text=True)
    two = run_command(str(tmp_path / "script.py"))
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert one.stdout == two.stdout and "0x" not in one.stdout


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"retrain": training(2)}, r"retrain\.epochs \(1 stored, 2 asked for\)"),
        ({"evaluate": other_score}, "evaluate"),
        ({"criterion": L2()}, "criterion"),
        ({"amount": 2}, r"amount \(1 stored, 2 asked for\)"),
        ({"scope": "global"}, "scope"),
        ({"layers": ["0"]}, "layers"),
    ],
)
def test_a_squeeze_never_returns_another_one(changed: dict, part: str, tmp_path: Path) -> None:
    asked = {"criterion": L1(), "amount": 1, "retrain": training(1), "evaluate": score, "unit": "neuron"}

    def run(**options):  # type: ignore[no-untyped-def]
        options = asked | options
        return list(squeeze(net(), options.pop("criterion"), iterations=1, directory=tmp_path, **options))

    first = run()
    assert all(step.resumed for step in run())
    with pytest.raises(InputError, match=part):
        run(**changed)
    anew = run(**changed, fresh=True)
    assert not any(step.resumed for step in anew)
    if changed.keys() & {"retrain", "evaluate", "amount"}:  # the others choose the same neuron here
        assert anew[1].metrics != first[1].metrics


def test_a_function_may_change_what_it_encloses(tmp_path: Path) -> None:
    calls: list[str] = []

    def counted(model: nn.Module) -> nn.Module:
        calls.append("trained")
        return model

    for _ in range(3):
        list(
            squeeze(net(), L1(), amount=1, iterations=2, retrain=counted, evaluate=score, directory=tmp_path)
        )
    assert calls == ["trained", "trained"]


def test_an_identity_stands_for_the_functions(tmp_path: Path) -> None:
    def run(identity: object, epochs: int):  # type: ignore[no-untyped-def]
        return list(
            squeeze(
                net(), L1(), amount=1, iterations=1, retrain=training(epochs), evaluate=score,
                directory=tmp_path, identity=identity,
            )
        )  # fmt: skip

    run({"version": 1}, 1)
    assert all(step.resumed for step in run({"version": 1}, 2))
    with pytest.raises(InputError, match=r"identity\.version"):
        run({"version": 2}, 1)


def test_a_recipe_never_returns_another_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def run(amount: float, **options):  # type: ignore[no-untyped-def]
        return recipe(
            net(), [pruning(amount=amount)], input_size=(5,), evaluate=score, directory=tmp_path, repeats=1,
            **options,
        )  # fmt: skip

    assert run(0.3).steps[1].metrics["nonzero_parameters"] > 60
    with pytest.raises(InputError, match=r"techniques\.prune\.apply\.amount \(0.3 stored, 0.9 asked for\)"):
        run(0.9)
    assert run(0.9, fresh=True).steps[1].metrics["nonzero_parameters"] < 40
    with caplog.at_level(logging.INFO, logger="compression"):
        run(0.9)
    assert f"resumed from {tmp_path}, 2 of 2 steps" in caplog.text


def test_a_recipe_in_another_order_is_another_one(tmp_path: Path) -> None:
    def run(names: str) -> None:
        techniques = [replace(pruning(amount=0.5), name=name) for name in names]
        recipe(net(), techniques, input_size=(5,), evaluate=score, directory=tmp_path, repeats=1)

    run("ab")
    with pytest.raises(InputError, match=r"techniques_in_order \('a, b' stored, 'b, a' asked for\)"):
        run("ba")


def test_metrics_are_numbers_of_any_kind() -> None:
    given_ = {
        "a": np.float32(0.5),
        "b": torch.tensor(2),
        "c": torch.tensor([1.0, 2.0]),
        "d": None,
        "e": (1, 2),
    }
    assert metrics_of(given_) == {"a": 0.5, "b": 2, "c": [1.0, 2.0], "d": None, "e": [1, 2]}
    for wrong in ("good", 0.5, None, {"a": object()}):
        with pytest.raises(InputError, match=r"evaluate must return|metric 'a' must be"):
            metrics_of(wrong)


def test_what_moved_is_stored_under_its_first_name() -> None:
    description = describe(shrink=shrink, quantize=quantize, save=save_quantized, encode=encode)
    assert {key: description[key] for key in ("shrink", "quantize", "save", "encode")} == {
        "shrink": "compression.shrinking.shrink",
        "quantize": "compression.quantization.quantize",
        "save": "compression.quantized_files.save_quantized",
        "encode": "compression.codec.encode",
    }


def test_packages_of_another_environment_go_by_their_names(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "site-packages" / "borrowed_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def work(x):\n    return x\n")
    monkeypatch.syspath_prepend(package.parent)
    work = importlib.import_module("borrowed_package").work
    assert describe(work=work) == {"work": "borrowed_package.work"}


def test_what_cannot_be_imported_is_no_source(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "for_others").mkdir()
    (tmp_path / "for_others" / "__init__.py").write_text("assert False\n")
    (tmp_path / "own_work.py").write_text(
        "def work(x):\n    from for_others import part\n    return part(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert unknown_parts(describe(work=importlib.import_module("own_work").work)) == []
