"""save_shrunk and load_shrunk: the same outputs again, and InputError for every damage."""

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError
from compression.shrinking import load_shrunk, save_shrunk, shrink


class Net(nn.Module):
    """A property without a setter, a module under two names, PReLU, a tied parameter and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bend, self.second = nn.Linear(5, 8), nn.PReLU(8), nn.Linear(8, 8)
        self.again, self.last, self.scale = self.bend, nn.Linear(8, 3), nn.Buffer(torch.ones(3))
        self.twin = self.last.bias

    @property
    def embed_dim(self) -> int:
        return self.first.out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.second(self.bend(self.first(x))))) * self.scale + self.twin


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("shrunk") / "small.safetensors"
    save_shrunk(shrink(Net(), (5,), amount=0.5).model, path)
    return path


def test_a_reloaded_model_is_the_same(tmp_path) -> None:
    small = shrink(Net(), (5,), amount=0.5).model
    save_shrunk(small, tmp_path / "small")
    again, x = load_shrunk(Net(), tmp_path / "small"), torch.randn(4, 5)
    assert torch.equal(again(x), small(x))
    assert again.again is again.bend and again.twin is again.last.bias
    assert (again.embed_dim, again.bend.num_parameters) == (4, 4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_bit_or_a_cut_is_refused(file: Path, data) -> None:
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place:]
    damaged = file.with_name("damaged")
    damaged.write_bytes(bytes(content))
    try:
        model = load_shrunk(Net(), damaged)
    except InputError as error:
        assert "damaged" in str(error) or "another architecture" in str(error)
        return
    whole = load_shrunk(Net(), file).state_dict()  # a blank of the header, which says nothing
    assert all(torch.equal(whole[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "sizes",
    [
        "[1]",
        "null",
        '{"first": 3}',
        '{"first": {"out_features": -4}}',
        "[" * 9999,
        '{"first": {"out_features": [4]}}',
        '{"first": {"out_features": [[4]]}}',
    ],
)
def test_sizes_of_other_kinds_are_refused(file: Path, sizes: str) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    from compression.shrinking.files import digest

    with safe_open(str(file), framework="pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    path = file.with_name("other")
    save_file(tensors, path, metadata={"sizes": sizes, "sha256": digest(sizes, tensors)})
    with pytest.raises(InputError, match="other is damaged"):
        load_shrunk(Net(), path)
    save_file(tensors, path, metadata={"sizes": '{"first": {"out_features": 7}}'})
    with pytest.raises(InputError, match="checksum is missing"):
        load_shrunk(Net(), path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (64, r"'first.weight' is F32 of shape \(64, 5\)"),
        (1 << 30, r"large has 21,474,837,\d+ bytes, more"),
    ],
)
def test_a_tensor_larger_than_the_models_is_not_read(tmp_path, rows: int, message: str) -> None:
    state = {key: tuple(value.shape) for key, value in Net().state_dict().items()}
    state["first.weight"] = (rows, 5)
    header, place = {}, 0
    for key, shape in state.items():
        size = 4 * int(torch.Size(shape).numel())
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    with open(tmp_path / "large", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + place)  # sparse: of the larger, 20 GiB of nothing
    with pytest.raises(InputError, match=message):
        load_shrunk(Net(), tmp_path / "large")
    with pytest.raises(InputError, match="is no file"):
        load_shrunk(Net(), tmp_path / "missing")


def test_layers_that_do_not_fit_together_are_refused_where_the_input_is_known(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    torch.manual_seed(0)
    save_shrunk(nn.Sequential(nn.Linear(4, 3), nn.Linear(5, 2)), tmp_path / "small")
    load_shrunk(model, tmp_path / "small")
    with pytest.raises(InputError, match=r"small is damaged, or input_size is another: it cannot be run"):
        load_shrunk(model, tmp_path / "small", input_size=(4,))
    save_shrunk(shrink(model, (4,), amount=0.5).model, tmp_path / "good")
    good = load_shrunk(model, tmp_path / "good", input_size=(4,))
    assert good.training and good[0].out_features == 4


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_a_wrapped_model_is_stored_as_what_it_wraps(tmp_path, wrap) -> None:
    net, x = Net(), torch.randn(4, 5)
    save_shrunk(wrap(net), tmp_path / "whole")
    assert torch.equal(load_shrunk(Net(), tmp_path / "whole")(x), net(x))
