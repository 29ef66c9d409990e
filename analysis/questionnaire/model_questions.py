"""The last five of Friedland's ten questions: about memorizing, generalizing and repeating."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from analysis.capacity_curve.trials import training_of
from analysis.lab.measurement.robustness import ensemble
from analysis.lab.reporting.documents import Section
from analysis.lab.runs.progress import silent
from analysis.lab.runs.trust import inside
from analysis.questionnaire.context import Experiment, title
from capacity import mean_half_width, memorizable_rows, wilson_interval
from capacity.cloning import clone
from capacity.columns import percent
from compression.checkpoints import fingerprint, load_model
from compression.evaluation import Evaluation, evaluate, mcnemar
from compression.stopping import knee
from compression.training import FitResult, TrainingSettings, fit

if TYPE_CHECKING:
    import pandas as pd


def memorizing(e: Experiment) -> Section:
    """6. Trained to memorize at capacity: was 100 % reached?"""
    step, bits, network = _full(e)
    memorizable = memorizable_rows(bits, e.classes)
    rows = min(memorizable, len(e.data.train), e.config.memorize_rows)
    part = e.data.train.take(slice(0, rows))
    random = torch.randint(e.classes, (rows,), generator=torch.Generator().manual_seed(0))
    part = replace(part, labels=random.to(part.labels.device))
    epochs = e.config.memorize_epochs
    settings = TrainingSettings(
        epochs=epochs, learning_rate=3e-3, optimizer="adamw", weight_decay=0.0, warmup_epochs=1, seed=0
    )
    trained = fit(network, part.batches(64, shuffle=True), settings=settings)
    known: Evaluation = evaluate(trained.model, part.batches(1000))
    used = rows * float(torch.log2(torch.tensor(float(e.classes)))) / bits
    named = "as trained" if step == 0 else f"after {step} squeezes"
    limit = "as many as it can hold" if rows == memorizable else f"of {memorizable:,} that it could hold"
    return Section(
        title(memorizing),
        [
            f"The network {named} stores up to {bits:,} bits. {rows:,} training pictures ({limit}) under "
            f"random labels use {percent(used, 1)} of that. After {epochs} epochs without weight decay it "
            f"knew "
            f"{known.correct:,} of them ({percent(known.correct / rows, 2)}): {_reason(trained, known)}.",
        ],
    )


def _full(e: Experiment) -> tuple[int, int, nn.Module]:
    """The least squeezed network that the rows there are can fill: its step, its bits, and itself."""
    available = min(len(e.data.train), e.config.memorize_rows)
    name = next(c for c in e.run.frame["criterion"] if c != "control")
    steps = e.run.frame.query("seed == 0 and criterion == @name").sort_values("step")
    for step, bits in zip(steps["step"], steps["capacity_bits"], strict=True):
        path = inside(e.run.path, f"seed-0/{name}/step-{int(step):03d}.safetensors")
        if memorizable_rows(int(bits), e.classes) <= available and path.exists():
            return int(step), int(bits), load_model(clone(e.networks[0]), path, sealed=True)
    return 0, e.capacity_bits, e.networks[0]


def _reason(trained: FitResult, known: Evaluation) -> str:
    if known.correct == known.total:
        return "all of them"
    losses = [entry["training_loss_nats"] for entry in trained.history]
    falling = losses[-1] < 0.98 * losses[-max(2, len(losses) // 4)]
    if falling:
        return "not all, and the loss was still falling when training ended: a limit of training time"
    return (
        "not all, although the loss no longer fell: what this training finds lies below the capacity, "
        "which is a convention's count and promises no more"
    )


def curve(e: Experiment) -> Section:
    """7. Trained to generalize: accuracy against capacity, and where to stop."""
    means = e.run.summary()
    names = [name for name in means["criterion"].unique() if name != "control"]
    rows, said = means[means["criterion"] == names[0]].reset_index(drop=True), []
    bits, errors = rows["capacity_bits_mean"].tolist(), rows["top1_error_mean"].tolist()
    place = knee(bits, errors)
    peak = int(rows["points_per_bit_mean"].idxmax())
    said.append(
        f"By {names[0]}, the knee of the curve is at step {rows['step'][place]} ({bits[place]:,.0f} bits, "
        f"{percent(errors[place], 2)} error): before it capacity is given away for nothing, past it error "
        f"is bought. "
        f"rho is highest at step {rows['step'][peak]} ({rows['points_per_bit_mean'][peak]:.4g} points/bit)."
    )
    worse = rows[(rows["top1_error_difference_mean"] - rows["top1_error_difference_half_width"]) > 0]
    said.append(
        f"The first step worse than the control beyond the interval is step {worse['step'].iloc[0]}."
        if len(worse)
        else "No step is worse than the control, trained as long and not squeezed, beyond the interval."
    )
    return Section(title(curve), said, _curve_table(rows), picture="capacity_curve")


def prediction(e: Experiment) -> Section:
    """8. Did the prediction hold on independent data?"""
    first = e.run.frame.query("step == 0").drop_duplicates("seed")
    gaps = (first["top1_error"] - first["validation_top1_error"]).tolist()
    mean = sum(gaps) / len(gaps)
    held = len(e.data.validation)
    low, high = wilson_interval(round(held * first["validation_top1_error"].iloc[0]), held)
    test = first["top1_error"].iloc[0]
    verdict = "within" if low <= test <= high else "outside"
    spread = f" ± {percent(mean_half_width(gaps), 2)}" if len(gaps) > 1 else ""
    return Section(
        title(prediction),
        [
            f"From {held:,} held-out training pictures, seed 0 predicts an error between {percent(low, 2)} "
            f"and "
            f"{percent(high, 2)} (95 %). The test split, touched once, gives {percent(test, 2)}: {verdict} "
            f"the prediction.",
            f"Over {len(gaps)} seeds, test minus validation error is {percent(mean, 2, sign=True)}{spread}.",
        ],
    )


def combining(e: Experiment) -> Section:
    """9. Is a combination of models better?"""
    logits, labels = e.test_logits
    if len(logits) < 2:
        return Section(title(combining), ["This run has one seed only, and nothing to combine."])
    singles = [float((values.argmax(1) != labels).float().mean()) for values in logits]
    together = ensemble(logits)
    error = float((together != labels).float().mean())
    test = mcnemar(logits[0].argmax(1) == labels, together == labels)
    count, bits = len(logits), len(logits) * e.capacity_bits
    return Section(
        title(combining),
        [
            f"The mean probability of the {count} seeds' networks errs on {percent(error, 2)}, the single "
            f"ones on "
            f"{percent(sum(singles) / count, 2)} on average. Beside seed 0 it gains {test.gained} test "
            f"points and "
            f"loses {test.lost} (McNemar p = {test.p_value:.2g}).",
            f"It stores up to {bits:,} bits, so that rho falls to "
            f"{(1 - error) * len(labels) / bits:.4g} points per bit.",
        ],
    )


def repeating(e: Experiment) -> Section:
    """10. Can the result be repeated and reproduced?"""
    settings = training_of(e.settings, e.runner, 0, e.settings.epochs)
    again = e.runner.fit(e.runner.network(0), settings, silent).model
    same = fingerprint(again) == fingerprint(e.networks[0])
    errors = e.run.frame.query("step == 0").drop_duplicates("seed")["top1_error"].tolist()
    mean = sum(errors) / len(errors)
    spread = (
        f" ± {percent(mean_half_width(errors), 2)} (95 % interval of the mean)" if len(errors) > 1 else ""
    )
    facts = e.run.environment
    return Section(
        title(repeating),
        [
            "Repeatability: trained again from seed 0, the weights are "
            + (
                "the same, byte for byte." if same else "not the same bytes: another machine or thread count?"
            ),
            f"Reproducibility: over {len(errors)} seeds the error is {percent(mean, 2)}{spread}.",
            f"The run's command is `{e.run.call}`, at commit {facts['commit'] or 'unknown'}, with torch "
            f"{facts['packages']['torch']}.",
        ],
    )


def _curve_table(rows: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        {
            "step": rows["step"],
            "capacity [bit]": rows["capacity_bits_mean"].round().astype(int),
            "top-1 error [%]": (100 * rows["top1_error_mean"]).round(2),
            "± (95 %)": (100 * rows["top1_error_half_width"]).round(2),
            "rho [points/bit]": rows["points_per_bit_mean"],
        }
    )
