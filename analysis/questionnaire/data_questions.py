"""The first five of Friedland's ten questions: about the task, the data, its labels and its need."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from analysis.lab.measurement.robustness import MOST_NEIGHBOURS, kappa_of, neighbours, robustness_curve
from analysis.lab.reporting.documents import Section
from analysis.questionnaire.context import Experiment, title
from capacity import label_entropy, measure, recommend, requirement
from capacity.columns import percent
from compression.evaluation import evaluate, mcnemar

if TYPE_CHECKING:
    import pandas as pd


def variable(e: Experiment) -> Section:
    """1. What is predicted, how accurately must it be, and what do disturbances cost?"""
    logits, labels = e.test_logits
    score = evaluate(nn.Identity(), [(logits[0], labels)])
    counts = torch.bincount(labels, minlength=e.classes)
    majority = int(counts.max()) / len(labels)
    low, high = score.top1_error_interval
    table = robustness_curve(e.networks[0], e.data.test, strengths=e.config.strengths, seed=0)
    worst = table["strength"][table["fgsm_top1_error"] >= 0.5]
    broken = f"from a strength of {worst.iloc[0]:g} on" if len(worst) else "at none of these strengths"
    return Section(
        title(variable),
        [
            f"One of {e.classes} classes. Always naming the most frequent class is right for "
            f"{percent(majority, 1)} "
            f"of the test points: that is the accuracy that any model must exceed.",
            f"The network of seed 0 errs on {percent(score.top1_error, 2)} (95 % interval "
            f"[{percent(low, 2)}, {percent(high, 2)}], "
            f"{len(labels):,} test points). Under the fast gradient sign method it errs on half of them or "
            f"more {broken}. Strengths are in units of pictures scaled to [0, 1].",
        ],
        _percent(table, "noise_top1_error", "fgsm_top1_error"),
    )


def data(e: Experiment) -> Section:
    """2. How much data is there; is it balanced, noisy, biased?"""
    import pandas as pd

    rows = []
    for name in ("train", "validation", "test"):
        split = getattr(e.data, name)
        counts = torch.bincount(split.labels.cpu(), minlength=e.classes)
        rows.append(
            {"split": name, "rows": len(split), "least in a class": int(counts.min()),
             "most in a class": int(counts.max()), "label entropy H [bit]": label_entropy(split.labels.cpu())}
        )  # fmt: skip
    twice, contradicting = _repeats(e.data.train.inputs, e.data.train.labels)
    seen = _shared(e.data.train.inputs, e.data.test.inputs)
    most = float(torch.log2(torch.tensor(float(e.classes))))
    return Section(
        title(data),
        [
            f"The classes would be perfectly balanced at H = {most:.4g} bit.",
            f"{twice:,} training rows repeat another one exactly, {contradicting:,} of them under another "
            f"label; {seen:,} test rows are also in the training split, which would flatter the test error.",
        ],
        pd.DataFrame(rows),
    )


def annotation(e: Experiment) -> Section:
    """3. How good are the labels?"""
    logits, labels = e.test_logits
    predicted = logits[0].argmax(1)
    judged = neighbours(_cpu(e.data.train), _cpu(e.data.test))
    against = kappa_of(judged, labels, e.classes)
    network = kappa_of(predicted.numpy(), labels, e.classes)
    suspects = int(((torch.as_tensor(judged) == predicted) & (predicted != labels)).sum())
    return Section(
        title(annotation),
        [
            f"There is no second annotator to compare with. Two independent ones are made: five nearest "
            f"neighbours among {_looked_at(e):,} training pictures agree with the labels at kappa = "
            f"{against:.4f}, the network at {network:.4f} "
            f"(kappa = (po - pe) / (1 - pe), Cohen 1960).",
            f"{suspects} test labels ({percent(suspects / len(labels), 2)}) are contradicted by both, and "
            f"by both in "
            f"the same way: an estimate of the label noise, and a list to look through first.",
        ],
    )


def inference(e: Experiment) -> Section:
    """4. Is it pattern matching or inference?"""
    logits, labels = e.test_logits
    judged = torch.as_tensor(neighbours(_cpu(e.data.train), _cpu(e.data.test), count=1))
    test = mcnemar(judged == labels, logits[0].argmax(1) == labels)
    bits = len(e.data.train) * label_entropy(e.data.train.labels.cpu())
    ratio = bits / e.capacity_bits
    holds = "could have stored every label" if ratio <= 1 else "cannot have stored every label"
    error = 1 - float((judged == labels).float().mean())
    return Section(
        title(inference),
        [
            f"The training labels are {bits:,.0f} bits, the network stores at most {e.capacity_bits:,} bits "
            f"(convention {e.settings.convention!r}): {ratio:.3g} bits of label for each bit of capacity, so "
            f"that it {holds}.",
            f"Matching the nearest of {_looked_at(e):,} training pictures errs on {percent(error, 2)} of "
            f"the test "
            f"points; the network "
            f"differs on {test.lost + test.gained} of them, and gains {test.gained} for {test.lost} lost "
            f"(McNemar p = {test.p_value:.2g}).",
        ],
    )


def need(e: Experiment) -> Section:
    """5. What capacity does the data need, how will it generalize, and does the need level off?"""
    bits = requirement(torch.as_tensor(e.data.train.inputs).cpu(), e.data.train.labels.cpu())
    report = measure(e.networks[0], e.data.input_size, convention=e.settings.convention, scope="trainable")
    verdict = "levels off" if bits.levels_off else "does not level off"
    table = bits.to_frame().rename(
        columns={"thresholds": "label changes", "thresholds_half_width": "± (95 %)",
                 "expected_bits": "expected need [bit]"}
    )  # fmt: skip
    return Section(
        title(need),
        [
            f"By the feature sums {bits.expected_bits:,} bits are expected to be needed, "
            f"{bits.maximum_bits:,} at most.",
            str(recommend(report, bits)) + ".",
            f"The need grows as rows^{bits.growth:.2f} and {verdict}. Feature sums see little of a picture: "
            f"shuffled labels need about as much, so that this bounds memorizing, not learning.",
        ],
        table,
    )


def _looked_at(e: Experiment) -> int:
    return min(MOST_NEIGHBOURS, len(e.data.train))


def _cpu(split: Any) -> Any:
    return split.to("cpu")


def _repeats(inputs: Any, labels: Tensor) -> tuple[int, int]:
    """Rows that equal an earlier one, and those of them under another label than its first copy."""
    keys = [row.numpy().tobytes() for row in torch.as_tensor(inputs).cpu()]
    first: dict[bytes, int] = {}
    twice = contradicting = 0
    for key, label in zip(keys, labels.tolist(), strict=True):
        if key in first:
            twice += 1
            contradicting += first[key] != label
        else:
            first[key] = label
    return twice, contradicting


def _shared(train: Any, test: Any) -> int:
    """Test rows that are also training rows."""
    known = {row.numpy().tobytes() for row in torch.as_tensor(train).cpu()}
    return sum(row.numpy().tobytes() in known for row in torch.as_tensor(test).cpu())


def _percent(frame: "pd.DataFrame", *columns: str) -> "pd.DataFrame":
    """The columns in percent, and named so."""
    names = {
        column: column.replace("_top1_error", " top-1 error").replace("fgsm", "FGSM") for column in columns
    }
    return frame.assign(**{c: (100 * frame[c]).round(2) for c in columns}).rename(
        columns={column: f"{name} [%]" for column, name in names.items()}
    )
