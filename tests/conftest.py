"""Test files run on several cores: each process, and each command it starts, computes on one thread.

Properties are judged by what they find, not by the clock: a busy machine fails no test. Files that take long
come first, so that no core waits at the end for another's last one. Random draws do not depend on what ran
or was imported before: torch's generator starts anew for each test file and for each test.
"""

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

if "DEEPCAPACITY_GPU" not in os.environ:  # tests compare with numbers computed on the processor
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

gc.set_threshold(10_000, 10, 10)  # as in a command: torch's imports need not be searched again and again

settings.register_profile(
    "unhurried", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")

LONGEST = (
    "compression/quantization/test_quantize.py", "test_packaging.py", "analysis/test_comparison.py",
    "analysis/test_pages.py", "compression/shrinking/test_shrink.py", "compression/test_copies.py",
    "analysis/test_sweeps.py", "compression/test_processes.py", "test_readme.py",
    "analysis/test_capacity_curve.py", "analysis/test_pruning_curve.py", "analysis/test_documents.py",
    "analysis/test_ending.py", "analysis/test_description_length.py", "analysis/test_speed.py",
    "analysis/test_surroundings.py", "analysis/test_reproduce_lines.py",
    "analysis/test_compression_frontier.py", "capacity/test_families.py", "analysis/test_consoles.py",
    "capacity/test_memorization.py", "compression/codec/test_codec.py", "compression/test_recipes.py",
    "analysis/test_escaping.py", "analysis/test_run_identity.py", "compression/test_training.py",
    "compression/test_costs.py", "compression/shrinking/test_removal.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of LONGEST first, by their time; the others as they are."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(
        key=lambda item: places.get(item.nodeid.partition("::")[0].removeprefix("tests/"), len(places))
    )


def pytest_collection_finish() -> None:
    """What was imported and collected is never searched for garbage."""
    gc.freeze()


def seed() -> None:
    from capacity.seeding import seed_generators  # torch reads the number of threads as it is imported

    seed_generators(0)


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> None:
    """What a test file draws as it is imported is the same whichever files came before it."""
    if isinstance(collector, pytest.File):
        seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test draws is the same whether it runs alone or after all others."""
    seed()
