"""squeeze(): steps, control, resuming, and a folder that never mixes two runs."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from capacity import InputError, dense_capacity, measure
from compression.batches import TensorBatches
from compression.criteria import L1, L2, Reservoir
from compression.masks import masks_of, nested
from compression.squeezing import squeeze
from compression.training import TrainingSettings, evaluate, fit


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))


INPUTS = torch.randn(90, 5, generator=torch.Generator().manual_seed(1))
DATA = TensorBatches(INPUTS, INPUTS.argmax(1) % 3, 30, shuffle=True)


def retrain(model: nn.Module) -> nn.Module:
    return fit(model, DATA, settings=TrainingSettings(epochs=2)).model


def score(model: nn.Module) -> dict:
    bits = measure(model, (5,), effective=True).capacity_bits
    return {"top1_error": evaluate(model, DATA).top1_error, "capacity_bits": bits}


def steps(directory=None, model=None, criterion=L1(), iterations=4, **options):  # noqa: B008
    arguments = {"amount": 3, "unit": "neuron", "retrain": retrain, "evaluate": score} | options
    return squeeze(model or net(), criterion, iterations=iterations, directory=directory, **arguments)


def plain(step) -> dict:
    facts = {f.name: getattr(step, f.name) for f in dataclasses.fields(step)}
    return {key: value for key, value in facts.items() if key not in ("model", "resumed")}


def test_each_step_takes_the_amount_and_measures() -> None:
    found = list(steps())
    assert [step.index for step in found] == [0, 1, 2, 3, 4]
    assert [step.metrics["capacity_bits"] for step in found] == [
        dense_capacity(5, [20 - 3 * k, 3]) for k in range(5)
    ]
    assert [step.achieved for step in found] == [0, 3, 3, 3, 3] and found[0].density == 1.0
    assert all(nested(masks_of(b.model), masks_of(a.model)) for a, b in itertools.pairwise(found))
    assert "step 4" in str(found[4])


def test_the_control_is_trained_as_long_and_keeps_everything() -> None:
    found = list(steps(criterion=None))
    assert {step.metrics["capacity_bits"] for step in found} == {dense_capacity(5, [20, 3])}
    assert not torch.equal(found[1].model[0].weight, found[4].model[0].weight)


@pytest.mark.parametrize("criterion", [L1(), L2("zero"), Reservoir(2), None])
def test_a_stopped_squeeze_goes_on_as_if_it_had_not_stopped(tmp_path, criterion) -> None:
    undisturbed = [plain(step) for step in steps(criterion=criterion)]
    first = steps(tmp_path, criterion=criterion)
    assert [plain(next(first)) for _ in range(3)] == undisturbed[:3]
    second = list(steps(tmp_path, criterion=criterion))
    assert [plain(step) for step in second] == undisturbed
    assert [step.resumed for step in second] == [True, True, True, False, False]
    more = list(steps(tmp_path, criterion=criterion, iterations=5))
    assert [step.resumed for step in more] == [True] * 5 + [False]


def test_retrain_may_return_what_fit_returns_and_evaluate_a_dataclass() -> None:
    found = list(
        steps(retrain=lambda model: fit(model, DATA), evaluate=lambda m: evaluate(m, DATA), iterations=1)
    )
    assert 0 <= found[1].metrics["top1_error"] <= 1


def test_a_folder_of_another_squeeze_is_refused(tmp_path) -> None:
    list(steps(tmp_path, iterations=1))
    with pytest.raises(InputError, match="another criterion"):
        steps(tmp_path, criterion=L2())
    with pytest.raises(InputError, match=r"another amount .3 stored, 0\.1 asked for., unit"):
        steps(tmp_path, amount=0.1, unit="weight")
    with pytest.raises(InputError, match=r"another model\.weights"):
        steps(tmp_path, model=nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3)))


def test_damaged_and_missing_step_files_are_named(tmp_path) -> None:
    list(steps(tmp_path, iterations=1))
    (tmp_path / "step-001.safetensors").unlink()
    with pytest.raises(InputError, match=r"step-001\.safetensors is missing"):
        list(steps(tmp_path))
    (tmp_path / "step-001.json").write_text("{")
    with pytest.raises(InputError, match=r"step-001\.json is damaged"):
        list(steps(tmp_path))


def test_squeezing_until_nothing_is_left_keeps_the_finished_steps(tmp_path) -> None:
    running = steps(tmp_path, iterations=9)
    with pytest.raises(InputError, match="at least one must stay"):
        list(running)
    assert (tmp_path / "step-006.json").exists() and not (tmp_path / "step-007.json").exists()


def test_negative_iterations_are_refused() -> None:
    with pytest.raises(InputError, match="iterations"):
        steps(iterations=-1)


def test_a_buffer_named_like_a_mask_is_none_and_the_squeeze_resumes(tmp_path) -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
            self.register_buffer("causal_mask", torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.last(torch.relu(self.first(x * self.causal_mask)))
            return found

    def run() -> list:
        torch.manual_seed(0)
        return list(
            squeeze(
                Causal(),
                L1(),
                amount=0.3,
                iterations=2,
                retrain=lambda m: m,
                evaluate=lambda m: {},
                directory=tmp_path,
            )
        )

    first, again = run(), run()
    assert [step.resumed for step in again] == [True] * 3
    for one, two in zip(first, again, strict=True):
        x = torch.ones(1, 6)
        assert torch.equal(one.model(x), two.model(x)) and one.density == two.density
        assert set(masks_of(two.model)) == (set() if two.index == 0 else {"first.weight"})


@pytest.mark.parametrize("found", [None, "trained", {"model": 3}])
def test_a_loop_that_forgets_to_return_its_model_is_told_so(found) -> None:
    steps = squeeze(
        nn.Linear(4, 3), L1(), amount=0.5, iterations=1, layers=[""], retrain=lambda m: found,
        evaluate=lambda m: {"error": 0.5},
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"retrain and techniques must return the model, as `return model`.*found"
    ):
        list(steps)


def test_without_retraining_nothing_is_trained(tmp_path) -> None:
    plain = squeeze(net(), L1(), amount=3, iterations=2, unit="neuron", evaluate=score, directory=tmp_path)
    last = list(plain)[-1].model
    assert torch.equal(last[0].weight, net()[0].weight * masks_of(last)["0.weight"])
    again = [step.resumed for step in steps(tmp_path, iterations=2, retrain=None)]
    assert again == [True] * 3
