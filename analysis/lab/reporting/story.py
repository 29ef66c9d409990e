"""What surrounds an experiment's numbers in words: its question, what was done, and what it does not show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from capacity.columns import counted as counted


@dataclass(frozen=True)
class Story:
    """The frame of what a run found, for pages and notebooks; numbers come from the run.

    Parameters
    ----------
    question: one sentence that ends in a question mark
    steps: settings -> sentences on what was done
    limits: what the result does not show
    """

    question: str
    steps: Callable[[Any], Sequence[str]]
    limits: Sequence[str]

    def done(self, config: Any) -> list[str]:
        """What was done under these settings; a quick pass is named as one."""
        quick = ["This is a quick pass (--smoke), which shows that everything runs: its figures mean little."]
        return [*self.steps(config), *(quick if config.smoke else [])]

    def caveats(self, config: Any) -> list[str]:
        """What the result does not show; a single seed is named as one."""
        alone = getattr(config, "seeds", 2) == 1
        one = "With one seed there are no intervals, and a difference may be chance."
        return [*([one] if alone else []), *self.limits]


def listed(names: Sequence[Any]) -> str:
    """Names in a sentence.

    >>> listed(["l1", "random"]), listed(["a", "b", "c"])
    ('l1 and random', 'a, b and c')
    """
    *first, last = [str(name) for name in names] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def percentages(shares: Sequence[float]) -> str:
    """Fractions in a sentence, without the sign.

    >>> percentages([0.2, 0.05, 0.0083])
    '20, 5 and 0.83'
    """
    return listed([f"{100 * share:.4g}" for share in shares])


def share(amount: int | float, noun: str) -> str:
    """How much is taken: a count, or a share of what is left.

    >>> share(100, "neuron"), share(0.3, "neuron")
    ('100 neurons', '30 % of its neurons')
    """
    return counted(amount, noun) if isinstance(amount, int) else f"{100 * amount:.4g} % of its {noun}s"


def pruned(config: Any) -> str:
    """How far networks were pruned and over how long, to begin a sentence with."""
    epochs = counted(config.prune_epochs, "epoch")
    return f"Each was pruned to {percentages(config.densities)} % of its weights over {epochs}"


def trained(config: Any) -> str:
    """How the networks of an experiment were trained, in a sentence."""
    count = counted(config.seeds, "network")
    was, each = ("was", "") if config.seeds == 1 else ("were", ", each from its own initial weights,")
    epochs = counted(config.epochs, "epoch")
    part = "" if config.limit is None else f", of which {config.limit:,} samples are used"
    return f"{count} {config.model!r} {was} trained{each} for {epochs} on {config.dataset!r}{part}."
