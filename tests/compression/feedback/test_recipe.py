"""The techniques with feedback in a recipe: one after another, and again from their files."""

import torch
from torch import nn

from compression import evaluate, recipe
from compression.techniques import coding_with_feedback, pruning_with_feedback, rounding_with_feedback


def test_each_is_a_step_that_resumes(tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    data = [(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)]
    steps = [
        pruning_with_feedback(data, amount=0.5),
        rounding_with_feedback(data, bits=4),
        coding_with_feedback(data, penalty=1e-4),
    ]

    def run():
        return recipe(
            model, steps, input_size=(6,), evaluate=lambda m: evaluate(m, data), directory=tmp_path, repeats=1
        )

    first, again = run(), run()
    names = ["prune with feedback", "round with feedback", "code with feedback"]
    assert [step.technique for step in first.steps][1:] == names
    assert torch.equal(first.model(data[0][0]), again.model(data[0][0]))
    assert int((first.model[0].weight == 0).sum()) >= 24
