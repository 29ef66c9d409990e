"""What the answers to the ten questions rest on: the run, its data, its trained networks."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor, nn

from analysis.lab.reporting.documents import Section
from analysis.lab.runner import Runner
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.loading import Run
from analysis.lab.runs.progress import silent
from analysis.lab.runs.trust import inside, require_trusted
from capacity import InputError, measure
from compression.checkpoints import load_model
from compression.evaluation import outputs

if TYPE_CHECKING:
    from analysis.questionnaire.config import Config


class Experiment:
    """The run, its data and its trained networks."""

    def __init__(self, run: Run, config: "Config") -> None:
        if run.command != "capacity_curve":
            raise InputError(f"{run.path} is a run of {run.command}; the ten questions need capacity_curve")
        if run.config.cache_features:
            raise InputError("the ten questions need a run on pictures, without cached features")
        require_trusted(run.config, [*config.trust, *([run.config.data] if config.data else [])], run.path)
        settings = run.config if not config.data else replace(run.config, data=config.data)
        self.run, self.config, self.settings = run, config, settings
        self.runner = Runner(settings, layers=settings.layers)
        self.runner.prepare(RunDirectory(run.path), silent)
        self.data, self.classes = self.runner.data, len(self.runner.data.classes)

    @cached_property
    def networks(self) -> list[nn.Module]:
        """The trained network of each seed, before any squeeze."""
        networks = []
        for seed in self.settings.trial_seeds:
            path = inside(self.run.path, f"seed-{seed}/trained.safetensors")
            if not path.exists():
                raise InputError(f"the run's networks are gone: {path}; run its command again")
            networks.append(load_model(self.runner.network(seed), path, sealed=True).eval())
        return networks

    @cached_property
    def test_logits(self) -> tuple[list[Tensor], Tensor]:
        """Logits of each seed's network on the test split, and the labels."""
        pairs = [outputs(network, self.data.test.batches(1000)) for network in self.networks]
        return [logits for logits, _ in pairs], pairs[0][1]

    @cached_property
    def capacity_bits(self) -> int:
        return measure(
            self.networks[0], self.data.input_size, convention=self.settings.convention, scope="trainable",
            effective=True,
        ).capacity_bits  # fmt: skip


def title(question: Callable[[Experiment], Section]) -> str:
    """A question as it is asked: the first line of the function that answers it."""
    return (question.__doc__ or "").splitlines()[0]
