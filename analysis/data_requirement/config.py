"""Settings of the count of what data need; importing it costs no torch."""

from dataclasses import dataclass

from analysis.lab.settings import ColumnsSettings, OutputSettings


@dataclass(frozen=True)
class Config(OutputSettings, ColumnsSettings):
    """Count label changes along the sorted feature sums, for growing parts of the data."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102; or your own: imagefolder:PATH,
    table:FILE.csv, text:FILE.csv."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    model: str = "mlp"
    """A network to compare with: mlp, lenet300, ..., torchvision:NAME, timm:NAME, hf:CONFIG.json; or none."""
    repeats: int = 5
    """Random parts drawn for each size."""
    seed: int = 0
    """Seed of the random parts."""
    image_size: int = 224
    """Side in pixels to which pictures of differing sizes are brought."""
    output: str = ""
    """Run folder; by default runs/data_requirement-DATASET-HASH."""
    smoke: bool = False
    """One repeat only."""
