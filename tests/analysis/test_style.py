"""Figures are in the house style whatever the caller has set, and leave the caller's settings alone."""

import importlib
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import to_rgb

from analysis.lab.reporting.figures import new_figure, save_figure
from analysis.lab.runs.loading import COMMANDS, finished
from capacity.figures import styled

RECORDED = sorted(Path(__file__).parents[2].glob("paper/runs/*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_draws_in_the_house_style(command: str) -> None:
    module = importlib.import_module(f"analysis.{command}")
    experiment = getattr(module, "EXPERIMENT", None)
    plots = [module.plot, *(experiment.figures.values() if experiment else ())]
    assert all(getattr(plot, "__wrapped__", None) for plot in plots)


@pytest.mark.parametrize("folder", RECORDED[::3], ids=lambda path: path.name)
def test_settings_of_the_caller_are_neither_changed_nor_used(folder: Path, tmp_path: Path) -> None:
    run = finished(folder)
    first = [path.read_bytes() for path in save_figure(run.plot(), tmp_path, "first")]
    backend, blue = matplotlib.get_backend(), to_rgb("b")
    with matplotlib.rc_context(
        {"font.size": 23, "axes.grid": False, "xtick.labelsize": 31, "xtick.color": "r"}
    ):
        before = dict(matplotlib.rcParams)
        again = [path.read_bytes() for path in save_figure(run.plot(), tmp_path, "again")]
        assert dict(matplotlib.rcParams) == before
    assert again == first
    assert (matplotlib.get_backend(), to_rgb("b")) == (backend, blue)


def test_figures_are_not_kept_by_pyplot() -> None:
    @styled
    def plot():
        figure, axes = new_figure(3, 2)
        axes.plot([1, 2])
        return figure

    plot()
    assert "matplotlib.pyplot" not in sys.modules or sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_settings_come_back_after_an_error() -> None:
    @styled
    def plot():
        raise ZeroDivisionError

    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError):
        plot()
    assert dict(matplotlib.rcParams) == before
