"""Data as tensors on the device: batches are slices, not a Python loop over samples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from capacity import checks
from capacity.errors import InputError
from capacity.inputs import as_integer, refusing

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass
class TensorBatches:
    """Iterates (inputs, targets) batches; a new seeded order and augmentation each epoch.

    Parameters
    ----------
    inputs: (N, ...) uint8 pictures, floats, token ids, or a memory-mapped numpy array of floats
    targets: (N, ...) class indices, or whatever the objective takes
    mean, std: per channel, in the units of pictures scaled to [0, 1]; uint8 inputs only
    augment: (batch, generator) -> batch, applied to a whole normalized batch at once
    seed: of the order and the augmentation; the same seed and epoch give the same batches
    """

    inputs: Tensor | np.ndarray
    targets: Tensor
    batch_size: int = 128
    shuffle: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: Augment | None = None
    seed: int = 0
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        checks.array("inputs", self.inputs)
        with refusing(lambda reason: f"targets must be a tensor or numbers; torch says: {reason}"):
            self.targets = torch.as_tensor(self.targets)
        if self.inputs.ndim == 0 or self.targets.ndim == 0:
            raise InputError("inputs and targets must have an axis of samples, found a single number")
        if len(self.inputs) != len(self.targets) or len(self.targets) == 0:
            raise InputError(
                f"inputs and targets must have the same length of at least 1, "
                f"found {len(self.inputs)} and {len(self.targets)}"
            )
        self.batch_size = as_integer("batch_size", self.batch_size)
        self.shuffle, self.seed = checks.flag("shuffle", self.shuffle), checks.seed("seed", self.seed)
        checks.optional(checks.function(2))("augment", self.augment)
        self._set_scale()

    def _set_scale(self) -> None:
        """From mean and std."""
        listed = checks.each(checks.number)
        self.mean, self.std = tuple(listed("mean", self.mean)), tuple(listed("std", self.std))
        if len(self.mean) != len(self.std):
            raise InputError(f"mean and std must be of the same channels, found {self.mean} and {self.std}")
        if self.mean:
            if self.inputs.dtype != torch.uint8:
                raise InputError(
                    f"mean and std are for pictures of type uint8, found inputs of type {self.inputs.dtype}: "
                    f"normalize them before"
                )
            if not all(value > 0 for value in self.std):
                raise InputError(f"std must be positive in every channel, found {self.std}")
            channels = self.inputs.shape[1] if self.inputs.ndim > 1 else 0
            if not channels or (channels != len(self.mean) and 1 not in (channels, len(self.mean))):
                raise InputError(
                    f"mean and std are of {len(self.mean)} channels, but a sample of the inputs has shape "
                    f"{tuple(self.inputs.shape[1:])}"
                )
            shape = (1, len(self.mean), *[1] * (self.inputs.ndim - 2))
            std = torch.tensor(self.std).view(shape)
            self._scale = self._on_device(1 / (255 * std))
            self._shift = self._on_device(-torch.tensor(self.mean).view(shape) / std)

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = self._generator()
        for rows in self._rows(generator):
            batch = self.taken(rows)
            if self.augment is not None:
                batch = self.augment(batch, generator)
            yield batch, self.targets[rows]

    def rows(self) -> Iterator[slice | Tensor]:
        """Which rows each batch of the next pass holds."""
        return self._rows(self._generator())

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)

    def _rows(self, generator: torch.Generator) -> Iterator[slice | Tensor]:
        count = len(self.targets)
        order = torch.randperm(count, generator=generator) if self.shuffle else None
        for start in range(0, count, self.batch_size):
            stop = min(count, start + self.batch_size)
            yield slice(start, stop) if order is None else order[start:stop]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and augmentation of the next pass."""
        self.epoch = epoch

    def taken(self, rows: slice | Tensor) -> Tensor:
        """The inputs of these rows, normalized, before any augmentation."""
        if isinstance(self.inputs, np.ndarray):
            index = rows if isinstance(rows, slice) else rows.numpy()
            return torch.from_numpy(np.array(self.inputs[index], dtype=np.float32))
        batch = self.inputs[rows]
        if batch.dtype != torch.uint8:
            return batch
        batch = batch.to(torch.float32)
        return batch.mul_(self._scale).add_(self._shift) if self.mean else batch.div_(255)

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor if isinstance(self.inputs, np.ndarray) else tensor.to(self.inputs.device)


@dataclass(frozen=True)
class CropAndFlip:
    """Random crop after zero padding, and horizontal flip, for a whole batch of pictures at once."""

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        as_integer("padding", self.padding, least=0)
        checks.flag("flip", self.flip)

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        count, _, height, width = batch.shape
        reach = 2 * self.padding + 1
        down, right = torch.randint(reach, (2, count), generator=generator)
        columns = torch.arange(width).expand(count, -1)
        if self.flip:
            flipped = torch.rand(count, generator=generator) < 0.5
            columns = torch.where(flipped[:, None], columns.flip(1), columns)
        rows = (torch.arange(height) + down[:, None]).to(batch.device)
        columns = (columns + right[:, None]).to(batch.device)
        padded = F.pad(batch, [self.padding] * 4)
        which = torch.arange(count, device=batch.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
