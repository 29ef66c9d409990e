"""Settings that commands share, a group each; a command's Config is made of groups and what is its own.

`NOT_IDENTITY` names those that do not change what comes out: where things lie, and where they are computed.
"""

from dataclasses import dataclass
from typing import Literal, TypedDict

from compression.trackers import Kind

Venue = Literal["article", "neurips", "icml", "ieee", "ieee-one", "ieee-two", "acl"]
NOT_IDENTITY = (
    "output", "data", "fresh", "processes", "scheduler", "device", "venue", "pgf", "wide", "track",
)  # fmt: skip


@dataclass(frozen=True)
class DataSettings:
    """Data."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102; docstrings (for language models),
    libraries (texts by library); or your own: imagefolder:PATH, table:FILE.csv, text:FILE.csv."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    image_size: int = 224
    """Side in pixels to which pictures of differing sizes are brought."""
    limit: int | None = None
    """Use only this many training and test samples."""


@dataclass(frozen=True)
class ColumnsSettings:
    """One's own CSV file, and how data without a test split are split."""

    label: str = ""
    """Of table and text: the column to predict; by default the last."""
    categories: tuple[str, ...] = ()
    """Of table: columns of numbers that are categories, such as codes."""
    text: str = ""
    """Of text: the column to read; by default the one with the longest words."""
    tokenizer: str = ""
    """Of text: a tokenizer.json or the folder of one, for ids; by default words are hashed."""
    split_column: str = ""
    """Column that says train, validation or test; by default rows are split by --split-seed, stratified."""
    split_seed: int = 0
    """Seed of the rows held out for validation, and for the test where data have no test split."""


@dataclass(frozen=True)
class ModelSettings:
    """Network."""

    model: str = "mlp"
    """mlp, lenet300, lenet5, vgg16, vgg16bn, googlenet, resnet18 and the others that README names,
    torchvision:NAME, timm:NAME, hf:CONFIG.json or package.module:factory; where there are students, their
    teacher."""
    pretrained: bool = False
    """Start from ImageNet weights where the network has them."""
    convention: Literal["previous", "running", "uncapped"] = "previous"
    """How a layer's capacity is capped by what feeds it."""


@dataclass(frozen=True)
class TrainSettings:
    """Training."""

    epochs: int = 30
    """Epochs of training, before anything is made smaller; where there are students, theirs."""
    batch_size: int = 128
    """Samples in a batch."""
    learning_rate: float = 0.05
    """Highest learning rate; it warms up over the first epoch and anneals to zero."""
    weight_decay: float = 5e-4
    """Weight decay."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum 0.9, or AdamW, which suits transformers."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of forward and backward passes in training; everything is measured in single."""
    augment: bool = False
    """Random crops and flips of the training pictures."""
    shift: int = 0
    """Random shifts of the training pictures by up to so many pixels; for digits, which must not flip."""
    device: str = ""
    """cpu, cuda, cuda:1 or mps; by default the first GPU where there is one."""
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    """Number type of the weights, in training and after."""


@dataclass(frozen=True)
class RunnerSettings(TrainSettings, ModelSettings, ColumnsSettings, DataSettings):
    """What a `Runner` needs: data, a network, and how to train it."""


class Reduced(TypedDict):
    """What presets at reduced scale share."""

    dataset: str
    image_size: int
    limit: int
    seeds: int
    epochs: int
    batch_size: int
    mixed_precision: Literal["bf16"]


REDUCED = Reduced(  # for two cores, with thinner networks: CIFAR-10 as JPEG, a quarter of its pixels
    dataset="imagefolder:cifar10-jpeg", image_size=16, limit=2_000, seeds=3, epochs=10, batch_size=64,
    mixed_precision="bf16",
)  # fmt: skip


@dataclass(frozen=True)
class PruneSettings:
    """Pruning."""

    criterion: tuple[Literal["l1", "l2", "reservoir", "random"], ...] = ("l1",)
    """What to prune by; several are drawn together."""
    center: Literal["mean", "zero"] = "mean"
    """What L1 and L2 measure a weight's deviation from: the layer's mean, or zero (magnitude pruning)."""
    unit: Literal["neuron", "weight"] = "neuron"
    """Whole neurons and channels, or single weights."""
    scope: Literal["layer", "global"] = "layer"
    """Whether the amount holds for each layer or for all of them together."""
    layers: tuple[str, ...] = ()
    """Layers to prune; by default all dense and convolutional ones (for neurons, all but the outputs)."""


@dataclass(frozen=True)
class ValidationSettings:
    """Validation."""

    validation: float = 0.1
    """Share of the training pictures held out; choices are made on them, and nothing learns from them."""


@dataclass(frozen=True)
class ScheduleSettings:
    """When pruning happens."""

    schedule: Literal["one-shot", "iterative", "rewind", "gradual"] = "one-shot"
    """one-shot: each amount from the dense network; iterative: from the amount before; rewind: so, but
    what survives goes back to its values after --snapshot-epoch; gradual: while a fresh network trains."""
    snapshot_epoch: int = 1
    """Epoch to rewind to."""
    gradual_until: float = 0.7
    """Share of the epochs after which gradual pruning has reached the amount."""


@dataclass(frozen=True)
class StudentSettings:
    """Student."""

    student: str = ""
    """Of distilled: the student's name; by default the network itself with fewer channels."""
    student_amount: float = 0.5
    """Of distilled without a name: share of the channels that the student lacks."""


@dataclass(frozen=True)
class ScoreSettings:
    """How a trained network was scored."""

    correct: int | None = None
    """Points the network classified correctly, for rho and G."""
    total: int | None = None
    """Points that were scored."""
    split: str = "test"
    """Name of the split that was scored."""
    label_bits: float | None = None
    """Entropy of the labels in bits; by default that of equally frequent classes."""


@dataclass(frozen=True)
class TeacherSettings:
    """Teacher."""

    temperature: float = 4.0
    """Divides the logits of teacher and student in the soft term."""
    alpha: float = 0.9
    """Weight of the teacher's soft targets; the rest is cross-entropy with the labels."""


@dataclass(frozen=True)
class MeasureSettings:
    """Measurement."""

    calibration: int = 1_000
    """Training samples that calibrate the ranges of activations."""
    repeats: int = 30
    """Timed passes of each network; the median counts."""
    onnx: bool = True
    """Export networks in integers to ONNX and time them in ONNX Runtime, where the extra [onnx] is
    installed."""


@dataclass(frozen=True)
class WorkerSettings:
    """Workers."""

    processes: int = 1
    """Cells computed at once on this machine; timings are cleanest with one."""
    scheduler: str = ""
    """Address of a Dask scheduler, as in tcp://host:8786, to compute the cells on its workers instead."""


@dataclass(frozen=True)
class OutputSettings:
    """How results are shown."""

    venue: Venue = "article"
    """For whose widths table.tex and the figures are made; ieee-one: one of two columns, ieee-two: both."""
    pgf: bool = False
    """Write figures as PGF too, for an article that sets their letters itself; needs pdflatex."""
    wide: bool = False
    """Print all columns, however wide the terminal is."""


@dataclass(frozen=True)
class RunSettings(OutputSettings):
    """Run."""

    output: str = ""
    """Run folder; by default runs/COMMAND-DATASET-MODEL-HASH, resumed if it exists."""
    seeds: int = 3
    """How many trials, each with its own initial weights and order of the data."""
    seed: int = 0
    """The first of the seeds."""
    smoke: bool = False
    """A quick pass through everything: few samples, one seed, one epoch."""
    fresh: bool = False
    """Start over, whatever the run folder holds."""
    track: tuple[Kind, ...] = ()
    """Send each seed's rows to these too, where they are installed; their files lie in the run folder."""

    @property
    def trial_seeds(self) -> range:
        """The seed of each trial."""
        return range(self.seed, self.seed + self.seeds)
