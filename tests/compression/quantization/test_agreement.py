"""How far the outputs of a rounded network lie from the float network's."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from compression import quantize
from compression.quantization.agreement import least_sqnr_db

torch.manual_seed(0)
DATA = [(torch.randn(32, 8), torch.zeros(32, dtype=torch.long)) for _ in range(2)]


def faint(by: float) -> nn.Sequential:
    """A network whose weights and activations are smaller than usual, as behind layer scales."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(by)
    return model


@pytest.mark.parametrize("scheme", ["static", "dynamic", "weight-only", "aware"])
def test_small_weights_and_activations_are_not_rounded_to_zero(scheme) -> None:
    """torchao's own steps end at 2^-12: what is smaller than half of that became zero, whole networks too."""
    options: dict = {"calibration": DATA} if scheme in ("static", "aware") else {}
    if scheme == "aware":
        options["retrain"] = lambda graph: graph
    found = {}
    for by in (1.0, 1e-4):
        model = faint(by)
        graph = quantize(model, scheme=scheme, input_size=(8,), **options).model
        x = DATA[0][0]
        found[by] = least_sqnr_db([model(x).double()], [graph(x).double()])
        assert found[by] is not None and found[by] > 30
    assert abs(found[1.0] - found[1e-4]) < 3


def test_static_tells_how_far_its_outputs_lie() -> None:
    model = faint(1.0)
    result = quantize(model, scheme="static", input_size=(8,), calibration=iter(DATA))
    x = DATA[0][0]
    with torch.no_grad():
        ours, theirs = model(x).double(), result.model(x).double()
    noise = (ours - theirs).square().sum()
    assert result.sqnr_db == pytest.approx(float(10 * torch.log10(ours.square().sum() / noise)))
    assert f"the outputs lie {result.sqnr_db:.1f} dB above the noise" in str(result).replace("\n", " ")
    assert quantize(model, scheme="dynamic", input_size=(8,)).sqnr_db is None


class Outlier(nn.Module):
    """All that its outputs tell lies far below one value that is no part of them."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.cat([self.inside(x)[:, :7], torch.full_like(x[:, :1], 1e4)], 1)
        return self.outside(hidden)


def test_outputs_that_drown_are_warned_of() -> None:
    torch.manual_seed(0)
    model = Outlier()
    with torch.no_grad():
        model.outside.weight[:, 7] = 0
    with pytest.warns(UserWarning, match="'static'.* dB from the float network's.*keep layers") as caught:
        result = quantize(model, scheme="static", input_size=(8,), calibration=DATA)
    assert result.sqnr_db is not None and result.sqnr_db < 6 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = quantize(model, scheme="static", input_size=(8,), calibration=DATA, keep=["outside"])
    assert kept.sqnr_db is not None and kept.sqnr_db > 30


def test_what_draws_at_random_is_not_judged() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + torch.randn_like(x[:, :4])

    assert quantize(Noisy(), scheme="static", input_size=(8,), calibration=DATA).sqnr_db is None


def test_ratios_by_their_formula() -> None:
    one = torch.tensor([3.0, 4.0])
    assert least_sqnr_db([one], [one]) == math.inf
    assert least_sqnr_db([], []) is None and least_sqnr_db([one], [one[:1]]) is None
    assert least_sqnr_db([0 * one], [one]) is None
    assert least_sqnr_db([one], [one + math.nan]) is None


def test_the_least_of_the_outputs_counts() -> None:
    one = torch.tensor([3.0, 4.0])
    assert least_sqnr_db([one, one], [one, one + 2.5]) == pytest.approx(10 * math.log10(2))
    assert least_sqnr_db([one], [one * math.inf]) == -math.inf


def test_the_calibration_is_gone_through_once_and_chance_stays(tmp_path) -> None:
    class Once:
        """Whose batches are gone once they are asked for."""

        def __init__(self) -> None:
            self.asked, self.batches = 0, iter(DATA)

        def __iter__(self):
            self.asked += 1
            return self.batches

    once = Once()
    result = quantize(faint(1.0), scheme="static", input_size=(8,), calibration=once)
    assert once.asked == 1 and result.sqnr_db == pytest.approx(
        quantize(faint(1.0), scheme="static", input_size=(8,), calibration=DATA).sqnr_db
    )
    rows = torch.utils.data.TensorDataset(*DATA[0])
    loader = torch.utils.data.DataLoader(rows, batch_size=8, shuffle=True)
    state = torch.get_rng_state()
    quantize(faint(1.0), scheme="static", input_size=(8,), calibration=loader)
    assert torch.equal(state, torch.get_rng_state())


def test_what_a_pass_leaves_behind_is_no_part_of_the_result() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(8, 4), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.layer(x) * (1.0 if self.calls < 3 else 100.0)

    torch.manual_seed(0)
    model = Counting()
    result = quantize(model, scheme="static", input_size=(8,), calibration=DATA)
    assert model.calls == 0 and torch.allclose(result.model(DATA[0][0]), model(DATA[0][0]), atol=0.1)


def test_outputs_that_cannot_be_taken_apart_are_not_judged() -> None:
    class Odd(dict):
        def __init__(self, *, only: Tensor) -> None:
            super().__init__(only=only)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Odd:
            return Odd(only=self.layer(x))

    quantize(Model(), scheme="static", input_size=(8,), calibration=DATA)
