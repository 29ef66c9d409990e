"""LaTeX cells and tables."""

import pandas as pd
import pytest

from analysis.lab.reporting.latex import escape, mean_and_interval, to_booktabs


@pytest.mark.parametrize(
    ("mean", "half", "cell"),
    [
        (0.0203702, 0.000301, r"$0.02037 \pm 0.00030$"),
        (350.6667, 5.171, r"$350.7 \pm 5.2$"),
        (12345.6, 250.0, r"$12\,346 \pm 250$"),
        (17216.0, 0.0, r"$17\,216$"),
        (0.5, float("nan"), "$0.5$"),
        (float("nan"), 1.0, "--"),
        (0.198, 8e-17, "$0.198$"),
    ],
)
def test_cells(mean: float, half: float, cell: str) -> None:
    assert mean_and_interval(mean, half) == cell


def test_a_summary_as_booktabs() -> None:
    means = pd.DataFrame(
        {"criterion": ["l_1"], "top1_error_mean": [0.0259], "top1_error_half_width": [0.0014]}
    )
    latex = to_booktabs(means, caption="50 % ± 3")
    assert r"\toprule" in latex and r"l\_1 & $2.59 \pm 0.14$" in latex and r"50 \% $\pm$ 3" in latex
    assert r"top-1 error [\%]" in latex and escape("a&b") == r"a\&b"
