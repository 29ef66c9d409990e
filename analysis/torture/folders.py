"""Run folders as a stranger may send them: read by every command in one line, followed nowhere."""

import json
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.torture.config import Config
from analysis.torture.files import MOST_SECONDS, Late, in_time
from analysis.torture.mutations import BYTES, ODD_VALUES, change_json
from analysis.torture.outcome import Outcome
from analysis.torture.processes import call_of, undisturbed
from capacity.errors import InputError

HOSTILE: tuple[Any, ...] = (
    *ODD_VALUES, "sprung_module:make", "venv.__main__:x", "hf:/etc/passwd", "imagefolder:/", "table:/x.csv",
    "../../escaped", "/dev/zero", "=1+1", "\\input FILE ", "<script>", "$(touch p)", "a\nb", 10**12,
)  # fmt: skip
Reader = Callable[[Path], object]
READABLE = ("capacity_curve", "pruning_curve", "compression_frontier", "quantization_table")
EVENTS: list[str] = []  # of the hook that is set once, since none can be taken away
WATCHED: list[Path] = []


def damage_folder(folder: Path, dice: random.Random) -> None:
    """Change settings, rows, bytes or the kind of a file of a run folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for _ in range(dice.choice((1, 1, 2, 3))):
        path = dice.choice(files)
        how = dice.randrange(6)
        with suppress(ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError):
            if how < 2:
                _change_settings(folder / "config.json", dice)
            elif how == 2:
                _change_row(folder / "results.csv", dice)
            elif how == 3:
                content = bytearray(path.read_bytes())
                dice.choice(BYTES)(content, dice)
                path.write_bytes(content)
            elif how == 4:
                text = dice.choice(("[1,2]", "null", "[" * 100_000, "{}", "", "\x00", '{"a": NaN}'))
                path.write_text(text)
            else:
                _replace(path, dice)


def _change_settings(path: Path, dice: random.Random) -> None:
    facts = json.loads(path.read_text())
    facts.pop("sha256_of_the_rest", None)
    part = dice.choice(("settings", "all_settings"))
    if dice.random() < 0.7 and facts.get(part):
        facts[part][dice.choice(sorted(facts[part]))] = dice.choice(HOSTILE)
    else:
        facts = change_json(facts, dice)
    path.write_text(json.dumps(facts))


def _change_row(path: Path, dice: random.Random) -> None:
    lines = path.read_text().splitlines()
    place = dice.randrange(len(lines))
    cells = lines[place].split(",")
    cells[dice.randrange(len(cells))] = str(dice.choice(HOSTILE))
    lines[place] = ",".join(cells)
    path.write_text("\n".join(lines[: dice.choice((len(lines), place + 1))]) + "\n")
    (path.parent / "checksums.json").unlink(missing_ok=True)


def _replace(path: Path, dice: random.Random) -> None:
    path.unlink()
    how = dice.randrange(5)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.symlink_to(dice.choice(("/dev/zero", path.name, "/etc/passwd", "../../outside.txt")))
    elif how == 2:
        path.mkdir()
    elif how == 3:
        with open(path, "wb") as file:
            file.truncate(2**33)


def readers() -> dict[str, Reader]:
    """What each command does with a folder, up to where it would compute for long."""
    from analysis.lab.runs.loading import finished
    from analysis.notebook import sections
    from analysis.questionnaire.config import Config as Questions
    from analysis.questionnaire.context import Experiment
    from analysis.report import Config as Pages
    from analysis.report import start as write_pages
    from analysis.reproduce.admitted import recorded
    from analysis.reproduce.trained import trained_lines

    def notebook(folder: Path) -> object:
        from analysis.lab.reporting.documents import to_notebook

        run = finished(folder)
        return to_notebook(run.title, sections(run, folder)), run.table(), run.plot()

    def questionnaire(folder: Path) -> object:
        return Experiment(finished(folder), Questions(run=str(folder), smoke=True)).networks

    def reproduce(folder: Path) -> object:
        runs = recorded([folder.parent])
        if not any(run.path.name == "good" for run in runs):
            raise AssertionError("a bad folder stopped the others")
        return list(trained_lines(runs))

    return {
        "notebook": notebook,
        "report": lambda folder: write_pages(Pages(runs=(str(folder),))),
        "questionnaire": questionnaire,
        "reproduce": reproduce,
    }


def watch(folder: Path) -> None:
    """Note what is imported or written outside of this folder from now on, besides our own caches."""
    if not WATCHED:
        sys.addaudithook(_hear)
    WATCHED[:] = [folder.resolve()]
    EVENTS.clear()


def _hear(event: str, facts: tuple[Any, ...]) -> None:
    if event == "import" and str(facts[0]).startswith(("sprung", "venv")):
        EVENTS.append(f"import of {facts[0]}")
    elif event == "open" and isinstance(facts[0], str) and isinstance(facts[1], str):
        writes = any(letter in facts[1] for letter in "wax+")
        if writes and WATCHED and not Path(facts[0]).is_relative_to(WATCHED[0]) and facts[0] != os.devnull:
            EVENTS.append(f"write to {facts[0]}")


def folders(config: Config, folder: Path) -> list[Outcome]:
    """Damaged copies of a run of each of the commands, one that is whole beside each."""
    runs = [folder / "runs" / command for command in config.commands if command in READABLE]
    for run in runs:
        undisturbed(call_of(run.name, run), run)
    tries = torture_folders(runs, config.folders, config.seed)
    copies = []
    for name in sorted({reader for reader, *_ in tries}):
        own = [(outcome, why, took) for reader, outcome, why, took in tries if reader == name]
        failures = tuple(
            f"{outcome}, {why.strip()[-300:]}"
            for outcome, why, _ in own
            if outcome not in ("read", "refused")
        )
        copies.append(Outcome("folders", name, len(own), max(took for *_, took in own), failures))
    return copies


def torture_folders(
    runs: Sequence[Path], count: int = 500, seed: int = 0
) -> list[tuple[str, str, str, float]]:
    """Damage copies of these runs so many times: reader, outcome, why and seconds of each try."""
    outcomes = []
    with TemporaryDirectory() as place:
        place_dir = Path(place).resolve()
        for number in range(count):
            dice = random.Random(f"{seed} {number}")
            shutil.rmtree(place_dir / "runs", ignore_errors=True)
            shutil.copytree(runs[0], place_dir / "runs" / "good")
            folder = place_dir / "runs" / "bad"
            shutil.copytree(dice.choice(list(runs)), folder)
            damage_folder(folder, dice)
            for name, read in readers().items():
                watch(place_dir / "runs")
                began = time.perf_counter()
                outcome, why = _outcome(read, folder)
                if EVENTS:
                    outcome, why = "outside", EVENTS[0]
                outcomes.append((name, outcome, f"try {number}: {why}", time.perf_counter() - began))
    return outcomes


def _outcome(read: Reader, folder: Path) -> tuple[str, str]:
    try:
        with in_time(4 * MOST_SECONDS):
            read(folder)
    except InputError as error:
        return ("refused", str(error)) if "\n" not in str(error) else ("raw", str(error))
    except OSError as error:  # which a command ends with in one line
        return "refused", str(error)
    except Late:
        return "hang", traceback.format_exc()
    except Exception:
        return "raw", traceback.format_exc()
    return "read", ""
