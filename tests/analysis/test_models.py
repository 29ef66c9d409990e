"""Networks by name: shapes, golden parameter counts, nearest matches."""

import pytest
import torch
from torch import nn

from analysis.lab.models import MODELS, create
from capacity import InputError, measure


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "name", sorted({*MODELS} - {"vgg16", "tiny_llama", "tiny_llama_block", "tiny_bert", "tiny_bert_block"})
)
@pytest.mark.parametrize("size", [(1, 28, 28), (3, 32, 32)])
def test_every_network_gives_logits(name: str, size: tuple[int, ...]) -> None:
    model = create(name, input_size=size, classes=7).eval()
    assert model(torch.randn(2, *size)).shape == (2, 7)


def test_golden_parameter_counts() -> None:
    assert parameters(create("lenet300", input_size=(1, 28, 28), classes=10)) == 266_610
    assert parameters(create("lenet5", input_size=(1, 28, 28), classes=10)) == 431_080
    assert (
        parameters(create("mlp", input_size=(1, 8, 8), classes=10))
        == 64 * 256 + 256 + 256 * 257 + 257 * 64 + 650
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("student_v1", 5_613_668), ("student_v2", 7_910_244), ("student_v3", 12_303_460),
        ("student_v4", 25_307_492), ("student_v5", 24_650_596), ("student_v6", 9_271_268),
        ("student_v7", 11_579_428), ("resnet20", 278_324), ("resnet56", 861_620),
        ("resnet8x4", 1_233_540), ("resnet32x4", 7_433_860),
    ],
)  # fmt: skip
def test_students_have_the_published_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameters(create(name, input_size=(3, 32, 32), classes=100)) == count


def test_report_e_s_student_owns_layers_that_it_never_uses() -> None:
    model = create("cnn5", input_size=(3, 224, 224), classes=10)
    assert parameters(model) == 1_359_754
    stored = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    assert round(stored / 2**20, 2) == 5.19
    report = measure(model, (3, 224, 224), effective=True)
    assert not any(layer.name.startswith("unused") and layer.capacity_bits for layer in report.layers)


def test_report_a_s_network() -> None:
    with torch.device("meta"):
        model = create("vgg16", input_size=(3, 224, 224), classes=10)
    report = measure(model, (3, 224, 224), scope="trainable")
    assert report.capacity_bits == 102_772_992
    assert [layer.name for layer in report.layers] == [f"classifier.{k}" for k in (0, 2, 4, 6)]
    with torch.device("meta"):
        gray = create("vgg16", input_size=(1, 28, 28), classes=10)
    assert measure(gray, (1, 28, 28), scope="trainable").capacity_bits == 102_772_992


def test_any_torchvision_network_and_one_s_own(tmp_path, monkeypatch) -> None:
    assert parameters(create("torchvision:squeezenet1_1", classes=4)) == 724_548
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\n"
        "def tiny(input_size, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(input_size[1] ** 2, classes))\n"
        "def wrong(input_size, classes): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = create("own_networks:tiny", input_size=(1, 4, 4), classes=3)
    assert model(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        create("own_networks:tinny")
    with pytest.raises(InputError, match=r"returned int, not a torch\.nn\.Module"):
        create("own_networks:wrong")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenet30", "did you mean 'lenet300' or 'lenet5'"),
        ("torchvision:resnet51", "did you mean"),
        ("no_such_module:net", "cannot be imported"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "cannot be called with input_size and classes .*def make"),
        ("builtins:len", "cannot be called with input_size and classes"),
        ("math:pi", "cannot be called with input_size and classes"),
        (":make", "'' is no name of a module"),
        ("..x:make", "'..x' is no name of a module"),
        ("a b:make", "'a b' is no name of a module"),
    ],
)
def test_what_is_no_factory_is_refused_without_a_call(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create(name, input_size=(1, 8, 8), classes=10)


def test_pictures_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="lenet5 needs pictures"):
        create("lenet5", input_size=(1, 8, 8), classes=10)


@pytest.mark.parametrize(("thin", "whole", "times"), [
    ("vgg16bn_quarter", "vgg16bn", 4), ("googlenet_eighth", "googlenet", 8),
    ("resnet18_quarter", "resnet18", 4), ("student_v6_quarter", "student_v6", 4),
])  # fmt: skip
def test_thinner_networks_have_so_many_times_fewer_channels(thin: str, whole: str, times: int) -> None:
    with torch.device("meta"):
        small, large = (
            create(name, input_size=(3, 32, 32), classes=10).state_dict() for name in (thin, whole)
        )
    assert list(small) == list(large)
    for name, tensor in small.items():
        if tensor.dim() and tensor.shape[0] != 10:
            assert tensor.shape[0] * times == large[name].shape[0], name
