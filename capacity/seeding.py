"""Torch's default generators seeded, at a fiftieth of what torch.manual_seed takes on a processor alone."""


def seed_generators(seed: int) -> None:
    """Seed the default generators of the processor and of all other devices, as torch.manual_seed does.

    Where there is no other device, torch.manual_seed formats the stack of its caller for each kind that there
    could be, which takes a millisecond deep in a program.

    >>> import torch
    >>> seed_generators(3)
    >>> torch.rand(1).equal(torch.rand(1, generator=torch.Generator().manual_seed(3)))
    True
    """
    import torch

    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
