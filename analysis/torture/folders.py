"""Run folders as a stranger may send them: read by every command in one line, followed nowhere."""

import json
import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.lab.resources import one_thread
from analysis.torture.clock import Late, in_time, seconds
from analysis.torture.config import Config
from analysis.torture.files import MOST_SECONDS
from analysis.torture.forks import Forks
from analysis.torture.mutations import BYTES, ODD_VALUES, change_json
from analysis.torture.outcome import Outcome, growing
from analysis.torture.processes import call_of, undisturbed
from capacity.errors import InputError
from compression.checkpoints import load_json

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
        if dice.random() < 0.5:
            (path.parent / "seed-9").symlink_to("../../outside")
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
    from analysis.report import write_pages
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
        "resume": resumed,
    }


def resumed(folder: Path) -> object:
    """Open it as its command does that would go on with it, or start over."""
    command = load_json(folder.parent / "good" / "config.json", sealed=False)["command"]
    experiment = import_module(f"analysis.{command}").EXPERIMENT
    fresh = not (folder / "results.csv").is_file()
    return experiment.directory(experiment.config(smoke=True, output=str(folder), fresh=fresh)).settle(dict)


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


def folders(config: Config, folder: Path, forks: Forks) -> Iterator[Outcome]:
    """Damaged copies of a run of each of the commands, one that is whole beside each."""
    calls = [call_of(command, folder / command) for command in config.commands if command in READABLE]
    runs = [undisturbed(forks, call)[0] for call in calls]
    tries: dict[str, list[tuple[float, str]]] = {}
    with one_thread():  # as in the runs, which are gone on with
        for reader, outcome, why, took in torture_folders(runs, config.folders, config.seed):
            good = outcome in ("read", "refused")
            own = tries.setdefault(reader, [])
            own.append((took, "" if good else f"{outcome}, {why.strip()[-300:]}"))
            yield list(growing("folders", reader, config.folders, own))[-1]


def torture_folders(
    runs: Sequence[Path], count: int = 500, seed: int = 0
) -> Iterator[tuple[str, str, str, float]]:
    """Damage copies of these runs so many times: reader, outcome, why and seconds of each try."""
    with TemporaryDirectory() as place:
        parent = Path(place).resolve()
        outside = parent / "outside"
        outside.mkdir()
        (outside / "mine.json").write_text("{}")
        for number in range(count):
            dice = random.Random(f"{seed} {number}")
            shutil.rmtree(parent / "runs", ignore_errors=True)
            chosen = dice.choice(list(runs))
            shutil.copytree(chosen, parent / "runs" / "good")
            folder = parent / "runs" / "bad"
            shutil.copytree(chosen, folder)
            damage_folder(folder, dice)
            for name, read in readers().items():
                watch(parent / "runs")
                began = seconds()
                outcome, why = _outcome(read, folder)
                if EVENTS or [path.name for path in outside.iterdir()] != ["mine.json"]:
                    outcome, why = "outside", (*EVENTS, "a file there was removed")[0]
                yield name, outcome, f"try {number}: {why}", seconds() - began


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
