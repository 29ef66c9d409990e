"""A training loop of one's own as `retrain` of squeeze: the Trainers of transformers and of Lightning."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from compression.batches import TensorBatches
from compression.criteria import L1
from compression.evaluation import evaluate
from compression.masks import masks_of
from compression.squeezing import squeeze

WORDS = torch.randint(2, 11, (32, 6), generator=torch.Generator().manual_seed(0))
SAMPLES = [{"input_ids": row, "labels": (row[0] > 6).long()} for row in WORDS]
BATCHES = [
    {"input_ids": WORDS[k : k + 8], "labels": (WORDS[k : k + 8, 0] > 6).long()} for k in range(0, 32, 8)
]


def test_transformers_trainer_retrains_what_squeeze_prunes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=11, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def retrain(network: torch.nn.Module) -> torch.nn.Module:
        arguments = transformers.TrainingArguments(
            str(tmp_path / "trainer"), max_steps=20, learning_rate=0.01, use_cpu=True, save_strategy="no",
            report_to="none", disable_tqdm=True, seed=0,
        )  # fmt: skip
        trainer = transformers.Trainer(network, arguments, train_dataset=SAMPLES)
        trainer.train()
        return trainer.model

    options = {
        "amount": 0.3,
        "iterations": 2,
        "directory": tmp_path / "steps",
        "identity": "20 steps of Adam",
    }
    steps = list(
        squeeze(model, L1("zero"), retrain=retrain, evaluate=lambda m: evaluate(m, BATCHES), **options)
    )
    assert steps[-1].density == pytest.approx(0.49, abs=0.02)
    assert steps[-1].metrics["top1_error"] < steps[0].metrics["top1_error"]
    for name, mask in masks_of(steps[-1].model).items():
        assert bool(_weight(steps[-1].model, name)[~mask.bool()].eq(0).all())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    again = squeeze(model, L1("zero"), retrain=retrain, evaluate=lambda m: evaluate(m, BATCHES), **options)
    assert [step.resumed for step in again] == [True, True, True]


def _weight(model: torch.nn.Module, name: str) -> torch.Tensor:
    place, _, key = name.rpartition(".")
    return getattr(model.get_submodule(place), key)


def test_the_guide_s_loop_of_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning", reason="the extra [lightning] is not installed")
    page = Path(__file__).parents[2] / "compression" / "README.md"
    (code,) = re.findall(r"^```py\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    inputs = torch.randn(96, 8)
    data = TensorBatches(inputs, inputs[:, :3].argmax(1), batch_size=8, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    given = {"torch": torch, "model": model, "train": data, "test": data}
    given |= {"squeeze": squeeze, "L1": L1, "evaluate": evaluate}
    exec(compile(code, str(page), "exec"), given)
    step = given["step"]
    assert step.index == 2 and step.density == pytest.approx(0.25, abs=0.02)
    assert step.metrics["top1_error"] < evaluate(model, data).top1_error
    for name, mask in masks_of(step.model).items():
        assert bool(_weight(step.model, name)[~mask.bool()].eq(0).all())
    exec(compile(code, str(page), "exec"), given)
    assert given["step"].resumed
