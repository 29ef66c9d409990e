"""Files: whole or absent, never executed, damage named."""

import os
import pickle

import pytest
import torch
from torch import nn

from capacity import InputError
from compression.checkpoints import (
    fingerprint,
    load_json,
    load_model,
    save_json,
    save_model,
    write_atomically,
)
from compression.criteria import L1
from compression.masks import masks_of
from compression.pruning import prune


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def test_round_trip_with_masks(tmp_path) -> None:
    pruned = prune(net(), L1(), amount=0.5).model.eval()
    save_model(pruned, tmp_path / "m.safetensors")
    loaded = load_model(net(), tmp_path / "m.safetensors").eval()
    x = torch.randn(3, 5)
    assert torch.equal(loaded(x), pruned(x)) and fingerprint(loaded) == fingerprint(pruned)
    assert torch.equal(masks_of(loaded)["0.weight"], masks_of(pruned)["0.weight"])


def test_tied_weights(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    save_model(model, tmp_path / "m.safetensors")
    other = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    other[1].weight = other[0].weight
    assert torch.equal(load_model(other, tmp_path / "m.safetensors")[1].weight, model[0].weight)


def test_the_fingerprint_sees_every_bit() -> None:
    model = net()
    before = fingerprint(model)
    assert before == fingerprint(model)
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-7
    assert fingerprint(model) != before


def test_json_keeps_every_bit_of_a_float(tmp_path) -> None:
    facts = {"a": 0.1 + 0.2, "b": [1e-300, None], "c": "ρ"}
    save_json(tmp_path / "f.json", facts)
    assert load_json(tmp_path / "f.json") == facts


def test_a_failing_write_leaves_the_old_file_and_nothing_beside(tmp_path) -> None:
    path = tmp_path / "f.json"
    save_json(path, {"a": 1})

    def fail(beside) -> None:
        beside.write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert load_json(path) == {"a": 1} and os.listdir(tmp_path) == ["f.json"]


def test_damage_and_other_architectures_are_named(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(net(), path)
    with pytest.raises(InputError, match="another architecture"):
        load_model(nn.Sequential(nn.Linear(2, 2)), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        load_model(net(), path)
    (tmp_path / "f.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"f\.json is damaged"):
        load_json(tmp_path / "f.json")


def test_a_pickle_is_refused_not_run(tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "m.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="damaged"):
        load_model(net(), tmp_path / "m.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_plain_file_is_not_read(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(InputError, match="is no file"):
            load_model(nn.Linear(2, 2), tmp_path / name)


def test_a_damaged_file_leaves_the_model_as_it_was(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(prune(net(), L1(), amount=0.5).model, path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    model = net()
    before = fingerprint(model)
    with pytest.raises(InputError, match="damaged"):
        load_model(model, path)
    assert fingerprint(model) == before


def test_weights_of_another_type_are_refused(tmp_path) -> None:
    save_model(net().double(), tmp_path / "m")
    with pytest.raises(InputError, match=r"another type: '0.bias' is torch.float64, the model's"):
        load_model(net(), tmp_path / "m")
    with pytest.raises(InputError, match="is no file"):
        load_model(net(), tmp_path / "missing")


def test_masks_of_torch_keep_their_checksum(tmp_path) -> None:
    from torch.nn.utils.prune import l1_unstructured

    model = net()
    l1_unstructured(model[0], "weight", 0.5)
    save_model(model, tmp_path / "m")
    assert torch.equal(load_model(net(), tmp_path / "m")[0].weight, model[0].weight)
