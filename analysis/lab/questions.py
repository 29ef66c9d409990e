"""Friedland's ten questions about a machine-learning experiment, answered from a run of capacity_curve.

Reference: the measurement form of Friedland's course on experimental design for machine learning, as filled
in by the report this package grew out of.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from analysis.lab.bench import Bench
from analysis.lab.documents import Section
from analysis.lab.finished import Finished
from analysis.lab.probing import MOST_NEIGHBOURS, disturbed, ensemble, kappa_of, neighbours
from analysis.lab.progress import Advance, silent
from analysis.lab.records import RunFolder
from analysis.lab.trials import training_of
from capacity import InputError, measure, memorizable_rows, recommend, requirement
from capacity.cloning import clone
from capacity.generalization import label_entropy, wilson_interval
from compression.checkpoints import fingerprint, load_model
from compression.evaluation import Evaluation, evaluate, mcnemar, outputs
from compression.stopping import knee
from compression.training import Fitted, Training, fit

if TYPE_CHECKING:
    import pandas as pd

    from analysis.questionnaire import Config


class Experiment:
    """The run, its data and its trained networks."""

    def __init__(self, run: Finished, config: "Config") -> None:
        if run.command != "capacity_curve":
            raise InputError(f"{run.path} is a run of {run.command}; the ten questions need capacity_curve")
        if run.config.cache_features:
            raise InputError("the ten questions need a run on pictures, without cached features")
        settings = run.config if not config.data else replace(run.config, data=config.data)
        self.run, self.config, self.settings = run, config, settings
        self.bench = Bench(settings, layers=settings.layers)
        self.bench.prepare(RunFolder(run.path), silent)
        self.data, self.classes = self.bench.data, len(self.bench.data.classes)

    @cached_property
    def networks(self) -> list[nn.Module]:
        """The trained network of each seed, before any squeeze."""
        paths = [self.run.path / f"seed-{seed}/trained.safetensors" for seed in range(self.settings.seeds)]
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise InputError(f"the run's networks are gone: {', '.join(missing)}; run its command again")
        return [load_model(self.bench.network(seed), path).eval() for seed, path in enumerate(paths)]

    @cached_property
    def test_logits(self) -> tuple[list[Tensor], Tensor]:
        """Logits of each seed's network on the test split, and the labels."""
        found = [outputs(network, self.data.test.batches(1000)) for network in self.networks]
        return [logits for logits, _ in found], found[0][1]

    @cached_property
    def capacity_bits(self) -> int:
        return measure(
            self.networks[0], self.data.input_size, convention=self.settings.convention, scope="trainable",
            effective=True,
        ).capacity_bits  # fmt: skip


def answers(run: Finished, config: "Config", advance: Advance = silent) -> Iterator[Section]:
    """The ten sections, in order; each is measured when it is asked for."""
    experiment = Experiment(run, config)
    for question in QUESTIONS:
        advance(doing=(question.__doc__ or "").splitlines()[0])
        yield question(experiment)
        advance(1)


def variable(e: Experiment) -> Section:
    """1. What is predicted, how accurately must it be, and what do disturbances cost?"""
    logits, labels = e.test_logits
    score = evaluate(nn.Identity(), [(logits[0], labels)])
    counts = torch.bincount(labels, minlength=e.classes)
    majority = int(counts.max()) / len(labels)
    low, high = score.top1_error_interval
    table = disturbed(e.networks[0], e.data.test, strengths=e.config.strengths, seed=0)
    worst = table["strength"][table["fgsm_top1_error"] >= 0.5]
    broken = f"from a strength of {worst.iloc[0]:g} on" if len(worst) else "at none of these strengths"
    return Section(
        _title(variable),
        [
            f"One of {e.classes} classes. Always naming the most frequent class is right for {majority:.1%} "
            f"of the test points: that is the accuracy that any model must exceed.",
            f"The network of seed 0 errs on {score.top1_error:.2%} (95 % interval [{low:.2%}, {high:.2%}], "
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
        _title(data),
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
        _title(annotation),
        [
            f"There is no second annotator to compare with. Two independent ones are made: five nearest "
            f"neighbours among {_looked_at(e):,} training pictures agree with the labels at kappa = "
            f"{against:.4f}, the network at {network:.4f} "
            f"(kappa = (po - pe) / (1 - pe), Cohen 1960).",
            f"{suspects} test labels ({suspects / len(labels):.2%}) are contradicted by both, and by both in "
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
        _title(inference),
        [
            f"The training labels are {bits:,.0f} bits, the network stores at most {e.capacity_bits:,} bits "
            f"(convention {e.settings.convention!r}): {ratio:.3g} bits of label for each bit of capacity, so "
            f"that it {holds}.",
            f"Matching the nearest of {_looked_at(e):,} training pictures errs on {error:.2%} of the test "
            f"points; the network "
            f"differs on {test.lost + test.gained} of them, and gains {test.gained} for {test.lost} lost "
            f"(McNemar p = {test.p_value:.2g}).",
        ],
    )


def need(e: Experiment) -> Section:
    """5. What capacity does the data need, how will it generalize, and does the need level off?"""
    found = requirement(e.data.train.inputs.cpu(), e.data.train.labels.cpu())
    report = measure(e.networks[0], e.data.input_size, convention=e.settings.convention, scope="trainable")
    verdict = "levels off" if found.levels_off else "does not level off"
    table = found.to_frame().rename(
        columns={"thresholds": "label changes", "thresholds_half_width": "± (95 %)",
                 "expected_bits": "expected need [bit]"}
    )  # fmt: skip
    return Section(
        _title(need),
        [
            f"By the feature sums {found.expected_bits:,} bits are expected to be needed, "
            f"{found.maximum_bits:,} at most.",
            str(recommend(report, found)) + ".",
            f"The need grows as rows^{found.growth:.2f} and {verdict}. Feature sums see little of a picture: "
            f"shuffled labels need about as much, so that this bounds memorizing, not learning.",
        ],
        table,
    )


def memorizing(e: Experiment) -> Section:
    """6. Trained to memorize at capacity: was 100 % reached?"""
    step, bits, network = _full(e)
    whole = memorizable_rows(bits, e.classes)
    rows = min(whole, len(e.data.train), e.config.memorize_rows)
    part = e.data.train.take(slice(0, rows))
    random = torch.randint(e.classes, (rows,), generator=torch.Generator().manual_seed(0))
    part = replace(part, labels=random.to(part.labels.device))
    epochs = e.config.memorize_epochs
    settings = Training(
        epochs=epochs, learning_rate=3e-3, optimizer="adamw", weight_decay=0.0, warmup_epochs=1, seed=0
    )
    trained = fit(network, part.batches(64, shuffle=True), settings=settings)
    known: Evaluation = evaluate(trained.model, part.batches(1000))
    used = rows * float(torch.log2(torch.tensor(float(e.classes)))) / bits
    named = "as trained" if step == 0 else f"after {step} squeezes"
    limit = "as many as it can hold" if rows == whole else f"of {whole:,} that it could hold"
    return Section(
        _title(memorizing),
        [
            f"The network {named} stores up to {bits:,} bits. {rows:,} training pictures ({limit}) under "
            f"random labels use {used:.1%} of that. After {epochs} epochs without weight decay it knew "
            f"{known.correct:,} of them ({known.correct / rows:.2%}): {_reason(trained, known)}.",
        ],
    )


def _full(e: Experiment) -> tuple[int, int, nn.Module]:
    """The least squeezed network that the rows there are can fill: its step, its bits, and itself."""
    available = min(len(e.data.train), e.config.memorize_rows)
    name = next(c for c in e.run.frame["criterion"] if c != "control")
    steps = e.run.frame.query("seed == 0 and criterion == @name").sort_values("step")
    for step, bits in zip(steps["step"], steps["capacity_bits"], strict=True):
        path = e.run.path / f"seed-0/{name}/step-{step:03d}.safetensors"
        if memorizable_rows(int(bits), e.classes) <= available and path.exists():
            return int(step), int(bits), load_model(clone(e.networks[0]), path)
    return 0, e.capacity_bits, e.networks[0]


def _reason(trained: Fitted, known: Evaluation) -> str:
    if known.correct == known.total:
        return "all of them"
    losses = [entry["training_loss_nats"] for entry in trained.history]
    falling = losses[-1] < 0.98 * losses[-max(2, len(losses) // 4)]
    if falling:
        return "not all, and the loss was still falling when training ended: a limit of training time"
    return (
        "not all, although the loss no longer fell: what this training finds lies below the capacity, "
        "which is an upper bound"
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
        f"{errors[place]:.2%} error): before it capacity is given away for nothing, past it error is bought. "
        f"rho is highest at step {rows['step'][peak]} ({rows['points_per_bit_mean'][peak]:.4g} points/bit)."
    )
    worse = rows[(rows["top1_error_difference_mean"] - rows["top1_error_difference_half_width"]) > 0]
    said.append(
        f"The first step worse than the control beyond the interval is step {worse['step'].iloc[0]}."
        if len(worse)
        else "No step is worse than the control, trained as long and not squeezed, beyond the interval."
    )
    return Section(_title(curve), said, _curve_table(rows), picture="capacity_curve")


def prediction(e: Experiment) -> Section:
    """8. Did the prediction hold on independent data?"""
    from capacity.generalization import mean_half_width

    first = e.run.frame.query("step == 0").drop_duplicates("seed")
    gaps = (first["top1_error"] - first["validation_top1_error"]).tolist()
    mean = sum(gaps) / len(gaps)
    held = len(e.data.validation)
    low, high = wilson_interval(round(held * first["validation_top1_error"].iloc[0]), held)
    test = first["top1_error"].iloc[0]
    verdict = "within" if low <= test <= high else "outside"
    spread = f" ± {mean_half_width(gaps):.2%}" if len(gaps) > 1 else ""
    return Section(
        _title(prediction),
        [
            f"From {held:,} held-out training pictures, seed 0 predicts an error between {low:.2%} and "
            f"{high:.2%} (95 %). The test split, touched once, gives {test:.2%}: {verdict} the prediction.",
            f"Over {len(gaps)} seeds, test minus validation error is {mean:+.2%}{spread}.",
        ],
    )


def combining(e: Experiment) -> Section:
    """9. Is a combination of models better?"""
    logits, labels = e.test_logits
    if len(logits) < 2:
        return Section(_title(combining), ["This run has one seed only, and nothing to combine."])
    singles = [float((values.argmax(1) != labels).float().mean()) for values in logits]
    together = ensemble(logits)
    error = float((together != labels).float().mean())
    test = mcnemar(logits[0].argmax(1) == labels, together == labels)
    count, bits = len(logits), len(logits) * e.capacity_bits
    return Section(
        _title(combining),
        [
            f"The mean probability of the {count} seeds' networks errs on {error:.2%}, the single ones on "
            f"{sum(singles) / count:.2%} on average. Beside seed 0 it gains {test.gained} test points and "
            f"loses {test.lost} (McNemar p = {test.p_value:.2g}).",
            f"It stores up to {bits:,} bits, so that rho falls to "
            f"{(1 - error) * len(labels) / bits:.4g} points per bit.",
        ],
    )


def repeating(e: Experiment) -> Section:
    """10. Can the result be repeated and reproduced?"""
    from capacity.generalization import mean_half_width

    settings = training_of(e.settings, e.bench, 0, e.settings.epochs)
    again = e.bench.fit(e.bench.network(0), settings, silent).model
    same = fingerprint(again) == fingerprint(e.networks[0])
    errors = e.run.frame.query("step == 0").drop_duplicates("seed")["top1_error"].tolist()
    mean = sum(errors) / len(errors)
    spread = f" ± {mean_half_width(errors):.2%} (95 % interval of the mean)" if len(errors) > 1 else ""
    facts = e.run.environment
    return Section(
        _title(repeating),
        [
            "Repeatability: trained again from seed 0, the weights are "
            + (
                "the same, byte for byte." if same else "not the same bytes: another machine or thread count?"
            ),
            f"Reproducibility: over {len(errors)} seeds the error is {mean:.2%}{spread}.",
            f"The run's command is `{e.run.call}`, at commit {facts['commit'] or 'unknown'}, with torch "
            f"{facts['packages']['torch']}.",
        ],
    )


QUESTIONS: tuple[Callable[[Experiment], Section], ...] = (
    variable, data, annotation, inference, need, memorizing, curve, prediction, combining, repeating,
)  # fmt: skip


def _title(question: Callable[[Experiment], Section]) -> str:
    return (question.__doc__ or "").splitlines()[0]


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
