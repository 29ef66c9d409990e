"""Every form of batch and output trains, scores and teaches as the plain tensors do; others are refused."""

import copy

import pytest
import torch
from forming import Classifier, Language, Output, sentences
from torch import nn
from torch.nn import functional as F

from capacity import InputError
from compression.distillation import DistillationLoss, distill
from compression.evaluation import evaluate, outputs, predictions
from compression.forms import AUXILIARY_WEIGHT, heads_of, logits_of, parts_of, placed
from compression.training import TrainingSettings, fit

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
BATCHES = [(X[k : k + 8], Y[k : k + 8]) for k in range(0, 32, 8)]
FORMS = ("tensor", "one-tuple", "dict", "segmentation", "dataclass", "named tuple", "heads")
AUXILIARY = ("segmentation", "named tuple", "heads")
LONG = TrainingSettings(epochs=15, learning_rate=0.1)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_output_trains_and_scores_alike(form: str) -> None:
    model = Classifier(form)
    trained = fit(model, BATCHES, settings=LONG, validation=BATCHES)
    assert trained.history[-1]["validation_top1_error"] < 0.15
    assert evaluate(model, BATCHES) == evaluate(Classifier("tensor"), BATCHES)
    torch.testing.assert_close(outputs(model, BATCHES)[0], model.head(model.body(X).relu()).detach())
    aux = trained.model.aux.weight
    assert torch.equal(aux, model.aux.weight) == (form not in AUXILIARY)
    student = distill(Classifier(form), trained.model, BATCHES, settings=LONG).model
    assert evaluate(student, BATCHES).top1_error < 0.15


@pytest.mark.parametrize("form", AUXILIARY)
def test_auxiliary_heads_add_three_tenths_of_their_loss(form: str) -> None:
    model = Classifier(form)
    found = fit(model, BATCHES[:1], settings=TrainingSettings(epochs=1, weight_decay=0, momentum=0)).model
    plain = copy.deepcopy(model)
    hidden = plain.body(BATCHES[0][0]).relu()
    loss = F.cross_entropy(plain.head(hidden), BATCHES[0][1])
    loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(plain.aux(hidden), BATCHES[0][1])
    loss.backward()
    for name, p in plain.named_parameters():
        torch.testing.assert_close(weights(found)[name], p - 0.5 * 0.05 * p.grad)  # the middle of the epoch


def test_an_output_whose_logits_cannot_be_told_is_refused() -> None:
    for call in (fit, evaluate, lambda model, data: distill(model, Classifier("tensor"), data)):
        with pytest.raises(
            InputError, match=r"returns \(float32 \(8, 8\), float32 \(8, 3\)\), in which the logits"
        ):
            call(Classifier("unclear"), BATCHES)
    with pytest.raises(InputError, match="cannot be told"):
        logits_of({"hidden": X})


@pytest.mark.parametrize("shift", [False, True])
def test_batches_of_names_train_and_score_a_language_model(shift: bool) -> None:
    batches = sentences()
    trained = fit(
        Language(shift), batches, settings=TrainingSettings(epochs=60, optimizer="adamw", learning_rate=0.02)
    )
    assert trained.history[-1]["training_loss_nats"] < 0.5
    with torch.no_grad():
        own = trained.model(**batches[0]).loss
    found = evaluate(trained.model, batches[:1])
    assert found.cross_entropy_nats == pytest.approx(float(own), rel=1e-5)
    labels = batches[0]["labels"]
    truth = labels[:, 1:] if shift else labels
    assert found.total == int((truth != -100).sum())
    guesses = trained.model(batches[0]["input_ids"]).logits.argmax(-1)
    guesses = guesses[:, :-1] if shift else guesses
    assert found.correct == int((guesses == truth).sum())
    assert torch.equal(predictions(trained.model, batches[:1])[1], truth[truth != -100])


def test_a_loss_that_is_not_of_the_labels_cannot_be_scored() -> None:
    model = Language(True)
    model.register_forward_hook(lambda module, args, output: Output(output.logits, output.logits.sum() + 99))
    with pytest.raises(InputError, match="neither with the labels nor with the next position's"):
        evaluate(model, sentences())


@pytest.mark.parametrize("shift", [False, True])
def test_a_language_model_learns_from_its_teacher(shift: bool) -> None:
    batches = sentences()
    settings = TrainingSettings(epochs=60, optimizer="adamw", learning_rate=0.02)
    teacher = fit(Language(shift), batches, settings=settings).model
    loss = DistillationLoss(1.0, 0.5, class_axis=2)
    student = distill(Language(shift), teacher, batches, loss=loss, settings=settings).model
    assert evaluate(student, batches).top1_error < 0.1


def test_networks_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = transformers.BertForSequenceClassification(
        transformers.BertConfig(vocab_size=11, **small, num_labels=2)
    )
    batches = sentences()
    classified = [{**batch, "labels": batch["input_ids"][:, 0] % 2} for batch in batches]
    settings = TrainingSettings(epochs=2, optimizer="adamw", learning_rate=0.01)
    trained = fit(bert, classified, settings=settings, validation=classified)
    assert evaluate(trained.model, classified).total == 12
    config = transformers.GPT2Config(vocab_size=11, n_embd=16, n_layer=1, n_head=2, n_positions=8)
    gpt = fit(transformers.GPT2LMHeadModel(config), batches, settings=settings).model
    found = evaluate(gpt, batches[:1])
    with torch.no_grad():
        assert found.cross_entropy_nats == pytest.approx(float(gpt.eval()(**batches[0]).loss), rel=1e-4)
    student = transformers.GPT2LMHeadModel(config)
    assert len(distill(student, gpt, batches, settings=settings).history) == 2


def test_several_inputs_and_pairs_in_lists() -> None:
    class Sum(nn.Linear):
        def forward(self, a, b):
            return super().forward(a + b)

    batches = [[x, x, y] for x, y in BATCHES]
    found = fit(Sum(6, 3), batches, settings=LONG).model
    assert evaluate(found, batches).top1_error < 0.3
    assert torch.equal(parts_of([X, Y])[0], X) and parts_of({"x": X, "label": Y})[0].keys() == {"x"}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (X, r"found float32 \(32, 6\)"),
        ((X,), "must be"),
        ({"input_ids": X}, "a batch has no labels"),
        ((X[:0], Y[:0]), "holds no samples"),
        ((X, 3), "sample per row"),
    ],
)
def test_batches_of_no_known_form(batch, message: str) -> None:
    for call in (fit, evaluate):
        with pytest.raises(InputError, match=message):
            call(Classifier("tensor"), [batch])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_every_precision_take_data_of_any(dtype: torch.dtype) -> None:
    model = Classifier("tensor").to(dtype)
    for data in (BATCHES, [(x.double(), y) for x, y in BATCHES], [(x.half(), y) for x, y in BATCHES]):
        trained = fit(model, data, settings=TrainingSettings(epochs=8, learning_rate=0.1), validation=data)
        assert trained.model.head.weight.dtype == dtype
        assert trained.history[-1]["validation_top1_error"] < 0.4
    assert placed({"ids": Y}, torch.device("cpu"), dtype)["ids"].dtype == torch.int64


def test_heads_have_weights() -> None:
    assert [weight for weight, _ in heads_of((X, X, X))] == [1.0, 0.3, 0.3]


def test_a_wrong_input_is_refused_by_all_alike() -> None:
    wrong = [(torch.zeros(8, 7), Y[:8])]
    for call in (fit, evaluate, outputs, predictions, lambda m, d: distill(Classifier("tensor"), m, d)):
        with pytest.raises(InputError, match=r"Classifier cannot take a batch of float32 \(8, 7\)"):
            call(Classifier("tensor"), wrong)
        with pytest.raises(InputError, match="lies on the meta device"):
            call(Classifier("tensor").to("meta"), BATCHES)


class Hidden(nn.Linear):
    def forward(self, x):
        return {"hidden": super().forward(x), "state": x}


CALLS = {
    "a number": (lambda net: fit(net, 3), r"data must yield batches \(inputs, targets\): .*; found int"),
    "nothing": (lambda net: evaluate(net, None), "data must yield batches .*; found NoneType"),
    "a path": (lambda net: fit(net, "train.csv"), "data must yield batches .*; found str"),
    "validation": (lambda net: fit(net, BATCHES, validation=3), "validation must yield batches"),
    "a data set": (lambda net: fit(net, torch.utils.data.TensorDataset(X, Y)), "goes into a DataLoader"),
    "a word as loss": (
        lambda net: fit(net, BATCHES, objective=lambda m, x, y: "good"),
        r"objective must return a scalar loss .*F\.mse_loss\(model\(x\), y\); found str",
    ),
    "a loss a sample": (
        lambda net: evaluate(net, BATCHES, objective=lambda m, x, y: m(x)),
        r"objective must return a scalar loss .*; found float32 \(8, 3\)",
    ),
    "no objective": (
        lambda net: fit(net, BATCHES, objective=3),
        r"a function \(model, inputs, targets\) -> scalar",
    ),
    "a dict of settings": (
        lambda net: fit(net, BATCHES, settings={"epochs": 2}),
        "settings must be TrainingSettings",
    ),
    "no progress": (
        lambda net: fit(net, BATCHES, progress="yes"),
        "progress must be True, for a bar, or a function",
    ),
    "no logits": (
        lambda net: evaluate(Hidden(6, 3), BATCHES),
        "return the logits alone or under the name 'logits'",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_what_is_of_no_known_form_is_told_the_form_expected(case: str) -> None:
    call, message = CALLS[case]
    with pytest.raises(InputError, match=message) as found:
        call(nn.Linear(6, 3))
    assert "\n" not in str(found.value)
