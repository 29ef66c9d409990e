"""Settings of the report on a network's capacity; importing it costs no torch."""

from dataclasses import dataclass
from typing import Literal

from analysis.lab.settings import OutputSettings, ScoreSettings


@dataclass(frozen=True)
class Config(OutputSettings, ScoreSettings):
    """Measure a network by name; with --correct and --total also how well each layer's bits are used."""

    model: str = "mlp"
    """mlp, lenet300, lenet5, vgg16, vgg16bn, googlenet, resnet18 and the others that README names,
    torchvision:NAME or package.module:factory."""
    input_size: tuple[int, ...] = (1, 8, 8)
    """Shape of one sample, such as 3 224 224."""
    classes: int = 10
    """Outputs of the network."""
    convention: Literal["previous", "running", "uncapped"] = "previous"
    """How a layer's capacity is capped by what feeds it."""
    scope: Literal["all", "trainable"] = "all"
    """All layers, or those that learn."""
    pretrained: bool = False
    """Load ImageNet weights (they matter for --effective only)."""
    effective: bool = False
    """Count only non-zero parameters on a live path; reads the weights."""
    output: str = ""
    """Run folder; by default runs/capacity_report-MODEL-HASH."""
    smoke: bool = False
    """Measure the default network; the command is quick anyway."""
