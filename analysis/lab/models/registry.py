"""Networks by name: create("lenet5", input_size=(1, 28, 28), classes=10)."""

import importlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import analysis.lab.models.cifar as cifar
import analysis.lab.models.encoders as encoders
import analysis.lab.models.language as language
import analysis.lab.models.students as students
import analysis.lab.models.zoos as zoos
from capacity.errors import InputError, unknown

Size = Sequence[int]
OTHERS = ("torchvision:NAME", "timm:NAME", "hf:CONFIG.json", "package.module:factory")


def create(
    name: str, *, input_size: Size = (3, 32, 32), classes: int = 100, pretrained: bool = False
) -> nn.Module:
    """A fresh network that maps (B, *input_size) to (B, classes) logits; a language model at each position.

    Parameters
    ----------
    name: one of MODELS, `torchvision:NAME`, `timm:NAME`, `hf:CONFIG.json`, or `package.module:factory` for a
        callable of one's own, called with input_size and classes
    pretrained: ImageNet weights from torchvision where the network has them

    Raises InputError for an unknown name, with the nearest match, and for input the network cannot take.
    """
    if name in MODELS:
        model = MODELS[name](tuple(input_size), classes, pretrained)
    elif name.startswith("torchvision:"):
        model = _torchvision(name.partition(":")[2], classes, pretrained)
    elif name.startswith("timm:"):
        model = zoos.timm_network(name.partition(":")[2], input_size, classes, pretrained)
    elif name.startswith("hf:"):
        model = zoos.transformers_network(name.partition(":")[2], input_size, classes, pretrained)
    elif ":" in name:
        model = _own(name, input_size, classes)
    else:
        raise unknown("model", name, [*MODELS, *OTHERS])
    return model


def _stack(inputs: int, units: Sequence[int]) -> list[nn.Module]:
    """Dense layers with rectifiers between them."""
    layers: list[nn.Module] = []
    for before, after in zip([inputs, *units], units, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


def _elements(size: Size) -> int:
    return int(torch.Size(size).numel())


def mlp(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """A small head shaped like report A's: 256, 256 and 64 units."""
    return nn.Sequential(nn.Flatten(), *_stack(_elements(size), [256, 256, 64, classes]))


def mlp_student(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """A small student: one hidden layer of 24 units."""
    return nn.Sequential(nn.Flatten(), *_stack(_elements(size), [24, classes]))


def lenet300(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """LeNet-300-100 (LeCun et al. 1998)."""
    return nn.Sequential(nn.Flatten(), *_stack(_elements(size), [300, 100, classes]))


def lenet5(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """LeNet-5 as in Caffe: 431,080 parameters on (1, 28, 28) with 10 classes."""
    channels, height, width = students.picture(size, "lenet5", 14)

    def halved(side: int) -> int:
        return -(-(side - 4) // 2)

    flat = 50 * halved(halved(height)) * halved(halved(width))
    features = nn.Sequential(
        nn.Conv2d(channels, 20, 5), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(20, 50, 5), nn.MaxPool2d(2, ceil_mode=True),
    )  # fmt: skip
    classifier = nn.Sequential(*_stack(flat, [500, classes]))
    return nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))


class ToImageNet(nn.Module):
    """Pictures of any size and one or three channels as (B, 3, 224, 224)."""

    def forward(self, pictures: Tensor) -> Tensor:
        resized = F.interpolate(pictures, size=(224, 224), mode="bilinear", antialias=True)
        return resized.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else resized


def vgg16(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """Report A's network: VGG16 with frozen features and a head of 4096, 4096, 256 units.

    Pictures that are not (3, 224, 224) are resized on the way in.
    """
    students.picture(size, "vgg16", 1)
    base = _torchvision("vgg16", 1000, pretrained)
    features = base.features.requires_grad_(False)
    assert isinstance(features, nn.Module) and isinstance(base.avgpool, nn.Module)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if tuple(size) != (3, 224, 224):
        parts["resize"] = ToImageNet()
    parts |= OrderedDict(features=features, avgpool=base.avgpool, flatten=nn.Flatten())
    parts["classifier"] = nn.Sequential(*_stack(25088, [4096, 4096, 256, classes]))
    return nn.Sequential(parts)


MODELS: dict[str, Callable[[Size, int, bool], nn.Module]] = {
    "mlp": mlp,
    "mlp_student": mlp_student,
    "lenet300": lenet300,
    "lenet5": lenet5,
    "vgg16": vgg16,
    "vgg16bn": cifar.vgg16bn,
    "vgg16bn_quarter": cifar.vgg16bn_quarter,
    "googlenet": cifar.googlenet,
    "googlenet_eighth": cifar.googlenet_eighth,
    "resnet18": cifar.resnet18,
    "resnet18_quarter": cifar.resnet18_quarter,
    "resnet20": cifar.resnet20,
    "resnet56": cifar.resnet56,
    "resnet8x4": cifar.resnet8x4,
    "resnet32x4": cifar.resnet32x4,
    **{name: students.student(name) for name in students.FEATURES},
    **{f"{name}_quarter": cifar.channels_last(students.student(name, 4)) for name in students.FEATURES},
    "cnn_teacher": students.cnn(256, 512),
    "cnn_student": students.cnn(16, 32),
    "six_layer": students.six_layer,
    "cnn5": students.cnn5,
    "tiny_llama": language.llama(3),
    "tiny_llama_block": language.llama(1),
    "tiny_bert": encoders.bert(2),
    "tiny_bert_block": encoders.bert(1),
}


def _torchvision(name: str, classes: int, pretrained: bool) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    model: nn.Module
    if not pretrained:
        model = models.get_model(name, weights=None, num_classes=classes)
        return model
    try:
        model = models.get_model(name, weights="DEFAULT")
    except OSError as error:
        raise InputError(f"the pretrained weights of {name} could not be downloaded: {error}") from error
    if classes != 1000:
        last = [key for key, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
        head: Any = model.get_submodule(last)
        model.set_submodule(last, nn.Linear(head.in_features, classes))
    return model


def _require_factory(name: str, factory: Any) -> None:
    """Raise InputError unless it is called with input_size and classes, as far as that can be known."""
    try:
        inspect.signature(factory).bind(input_size=(), classes=1)
    except TypeError as error:
        raise InputError(
            f"model {name!r} cannot be called with input_size and classes ({error}); a factory is "
            f"def make(input_size, classes)"
        ) from error
    except ValueError:  # written in C, and not telling
        pass


def _own(name: str, input_size: Size, classes: int) -> nn.Module:
    path, _, factory = name.partition(":")
    if not all(part.isidentifier() for part in path.split(".")):
        raise InputError(f"model {name!r}: {path!r} is no name of a module; a factory is package.module:NAME")
    try:
        module: Any = importlib.import_module(path)
    except ImportError as error:
        raise InputError(f"model {name!r}: module {path!r} cannot be imported ({error})") from error
    if not hasattr(module, factory):
        raise unknown(f"factory in {path}", factory, [key for key in vars(module) if not key.startswith("_")])
    _require_factory(name, getattr(module, factory))
    model = getattr(module, factory)(input_size=tuple(input_size), classes=classes)
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name!r} returned {type(model).__name__}, not a torch.nn.Module")
    return model
