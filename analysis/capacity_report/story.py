"""What the report on a network's capacity asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story

if TYPE_CHECKING:
    from analysis.capacity_report.config import Config


def _steps(c: "Config") -> list[str]:
    size = " x ".join(map(str, c.input_size))
    lines = [
        f"The layers of {c.model!r} that a sample of {size} passes were measured in order, convention "
        f"{c.convention!r}, scope {c.scope}; no data and no training were needed."
    ]
    counts = "Only parameters that are not zero and on a live path from input to output count."
    return [*lines, counts] if c.effective else lines


STORY = Story(
    "How many bits can each layer of this network store, and which layers are limited by what enters them?",
    _steps,
    [
        "A capacity is what the named convention counts, and no measurement of what training finds.",
        "It depends on the size of the sample: larger pictures bring more bits to the layers behind.",
    ],
)
