"""Networks of other packages by name: timm's, and transformers' from a config.json of one's own.

Both start from fresh weights. Nothing is downloaded, and no code of a folder is executed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from capacity.errors import InputError, missing, unknown
from capacity.inputs import first_line

Size = Sequence[int]


def timm_network(name: str, size: Size, classes: int, pretrained: bool) -> nn.Module:
    """A network of timm for pictures (channels, height, width).

    Raises InputError where timm is not installed, for an unknown name with the nearest ones, for input that
    is no picture or of a size that the network is not made for, and for pretrained weights.
    """
    try:
        import timm
    except ImportError as error:
        raise missing("models", f"--model timm:{name}") from error
    _refuse_weights(f"timm:{name}", pretrained)
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise unknown("timm model", name, known)
    if len(size) != 3:
        raise InputError(f"timm:{name} needs pictures (channels, height, width), found {tuple(size)}")
    options = {"pretrained": False, "num_classes": classes, "in_chans": size[0]}
    try:
        model = _of_size(timm, name.partition(".")[0], tuple(size[1:]), options)
    except Exception as error:  # whatever timm's constructors stumble over
        raise InputError(f"timm:{name} cannot be built for {tuple(size)}: {first_line(error)}") from error
    assert isinstance(model, nn.Module)
    return model


def _of_size(timm: Any, name: str, sides: tuple[int, ...], options: dict[str, Any]) -> Any:
    """Transformers are made for one size of pictures; other networks do not take the argument."""
    try:
        return timm.create_model(name, img_size=sides, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **options)


class LogitsOf(nn.Module):
    """A network of transformers from ids or pictures to (B, classes) logits; ids `padding` are masked."""

    def __init__(self, network: nn.Module, padding: int | None) -> None:
        super().__init__()
        self.network, self.padding = network, padding

    def forward(self, inputs: Tensor) -> Tensor:
        if self.padding is None:
            return self.network(pixel_values=inputs).logits  # type: ignore[no-any-return]
        if inputs.is_floating_point():
            raise InputError(
                f"{type(self.network).__name__} takes token ids, found numbers: give --dataset text:FILE.csv "
                f"and --tokenizer tokenizer.json"
            )
        mask = (inputs != self.padding).long()
        return self.network(input_ids=inputs, attention_mask=mask).logits  # type: ignore[no-any-return]


def transformers_network(path: str, size: Size, classes: int, pretrained: bool) -> nn.Module:
    """A classifier of transformers with fresh weights, as a config.json (or the folder of one) describes it.

    Of pictures (channels, height, width) or of (length,) token ids, by what the kind of network takes. Code
    that the file names is not looked at: only kinds that transformers itself knows are built.

    Raises InputError where transformers is not installed, for a file that is no such config, a kind that
    classifies neither texts nor pictures, and input that does not belong to it.
    """
    name = f"hf:{path}"
    try:
        import transformers
    except ImportError as error:
        raise missing("models", f"--model {name}") from error
    _refuse_weights(name, pretrained)
    config = _config(transformers, Path(path))
    auto, pictures = _classifier(transformers, name, config)
    config.num_labels = classes
    if pictures != (len(size) == 3):
        wanted = "pictures (channels, height, width)" if pictures else "token ids (length,)"
        raise InputError(f"{name} ({config.model_type}) takes {wanted}, found a sample of {tuple(size)}")
    if pictures:
        config.num_channels = size[0]
        if hasattr(config, "image_size"):
            config.image_size = size[1] if size[1] == size[2] else tuple(size[1:])
    else:
        longest = getattr(config, "max_position_embeddings", None) or size[0]
        if size[0] > longest:
            raise InputError(f"{name} has {longest} positions, but the texts have {size[0]} tokens")
        config.pad_token_id = getattr(config, "pad_token_id", None) or 0
    try:
        network = auto.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever transformers' constructors stumble over
        raise InputError(f"{name} cannot be built: {first_line(error)}") from error
    return LogitsOf(network, None if pictures else config.pad_token_id)


def _refuse_weights(name: str, pretrained: bool) -> None:
    if pretrained:
        raise InputError(
            f"{name} starts from fresh weights and nothing is downloaded: leave out --pretrained, or load "
            f"weights in a factory of your own (--model package.module:factory)"
        )


def _config(transformers: Any, path: Path) -> Any:
    """The config of a file, without what it says about code."""
    file = path / "config.json" if path.is_dir() else path
    form = 'hf: takes the config.json of a network, with its "model_type"'
    if not file.is_file():
        raise InputError(f"{file} is not a file; {form}")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{file} cannot be read ({first_line(error, 120)}); {form}") from error
    kind = facts.pop("model_type", None) if isinstance(facts, dict) else None
    if kind is None:
        raise InputError(f"{file} names no model_type; {form}")
    known = transformers.CONFIG_MAPPING
    if kind not in known:
        raise unknown("model_type", kind, sorted(known.keys()))
    facts = {key: value for key, value in facts.items() if key not in ("auto_map", "id2label", "label2id")}
    try:
        return transformers.AutoConfig.for_model(kind, **facts)
    except Exception as error:  # settings that the config's class refuses
        raise InputError(f"{file} is no config of {kind}: {first_line(error)}") from error


def _classifier(transformers: Any, name: str, config: Any) -> tuple[Any, bool]:
    """The automatic class that builds this kind of network as a classifier, and whether of pictures."""
    from transformers.models.auto import modeling_auto as auto

    if type(config) in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return transformers.AutoModelForSequenceClassification, False
    if type(config) in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        return transformers.AutoModelForImageClassification, True
    raise InputError(f"{name}: transformers has no classifier of texts or pictures for {config.model_type!r}")
