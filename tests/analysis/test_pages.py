"""Pages of runs: whole, self-contained, escaped, the same for the same run; in a real browser they work."""

import csv
import json
import math
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import run_command

from analysis.capacity_report import main as capacity_report
from analysis.data_requirement import main as data_requirement
from analysis.lab.reporting.columns import table_of_all
from analysis.lab.reporting.html_tables import MOST_ROWS, Cell, HtmlTable, html_table
from analysis.lab.runs.loading import COMMANDS, finished
from analysis.report import main
from analysis.report.figures import for_phones, inline_svg
from analysis.report.marks import marks_of, matching_row
from analysis.report.page import page

RECORDED = sorted(Path(__file__).parents[2].glob("paper/runs/*"))
FIRST = {
    json.loads((path / "config.json").read_text("utf-8"))["command"]: path for path in reversed(RECORDED)
}  # of each command; the others where slow tests run
COMPARISON = next(path for path in RECORDED if path.name == "six-layer")
HOSTILE = '"><img src=x onerror=alert(1)></td><script>alert(2)</script>&amp;'
VOID = {"meta", "br", "img", "hr", "link", "input"}


class Reader(HTMLParser):
    """What a page holds; raises where an element is not closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        assert len({name for name, _ in attrs}) == len(attrs), tag
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self) -> str:
        return "".join(data for tag, data in self.texts if tag not in ("style", "script"))


def loads_nothing(read: Reader) -> None:
    """No code but ours, nothing named that a browser would fetch or run."""
    script = files("analysis.report").joinpath("page.js").read_text("utf-8")
    assert [data for tag, data in read.texts if tag == "script"] == [script]
    assert not {"img", "link", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    for name, value in read.attributes:
        assert not name.startswith("on") and name not in ("src", "srcset", "action"), name
        assert not name.endswith("href") or str(value).startswith("#"), value
        assert "url(" not in str(value) or "url(#" in str(value)
    style = "".join(data for tag, data in read.texts if tag == "style")
    assert "url(" not in style and "@import" not in style
    policy = next(str(value) for name, value in read.attributes if "default-src" in str(value))
    assert policy.startswith("default-src 'none'; ") and "script-src 'sha256-" in policy


def whole(text: str, folder: Path) -> Reader:
    """The page read; it tells what the run's folder holds and what its command says of it."""
    read, run = Reader(text), finished(folder)
    loads_nothing(read)
    told = read.text().replace("\xa0", " ")
    assert run.story is not None and run.call in told
    for line in (*run.headline(), run.story.question, *run.done(), *run.story.caveats(run.config)):
        assert line in told, line
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(set(ids)) == len(ids) and {"Settings", "How to repeat"} <= {data for _, data in read.texts}
    rows = [value for name, value in read.attributes if name == "data-row"]
    assert set(rows) <= set(ids) and read.tags.count("svg") >= 1 and "circle" in read.tags
    return read


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(path, id=path.name, marks=[] if path in FIRST.values() else [pytest.mark.slow])
        for path in RECORDED
    ],
)
def test_recorded_runs_give_whole_pages(folder: Path) -> None:
    text = page([finished(folder)])
    whole(text, folder)
    assert len(text) < 2_000_000


@pytest.mark.parametrize("command", [capacity_report, data_requirement])
def test_smoke_runs_give_whole_pages(command, tmp_path: Path, capsys) -> None:
    command(["--smoke", "--output", str(tmp_path / "run")])
    main([str(tmp_path / "run")])
    path = tmp_path / "run" / "report.html"
    assert f"page: {path}" in capsys.readouterr().out
    assert "A quick pass" in whole(path.read_text(encoding="utf-8"), tmp_path / "run").text()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_smoke_run_of_every_command_gives_a_whole_page(command: str, quick_run) -> None:
    folder, _ = quick_run(command)
    done = run_command("report", "run", cwd=folder)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    whole((folder / "run" / "report.html").read_text(encoding="utf-8"), folder / "run")


def test_a_page_is_valid_html() -> None:
    html5lib = pytest.importorskip("html5lib", reason="the extra [dev] is not installed")
    parser = html5lib.HTMLParser()
    parser.parse(page([finished(COMPARISON)]))
    assert parser.errors == []


def test_the_same_run_gives_the_same_bytes() -> None:
    assert page([finished(COMPARISON)]) == page([finished(COMPARISON)])


def test_several_runs_on_one_page(tmp_path: Path) -> None:
    main([*map(str, RECORDED[:2]), "--output", str(tmp_path / "both.html")])
    read = Reader((tmp_path / "both.html").read_text(encoding="utf-8"))
    loads_nothing(read)
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(set(ids)) == len(ids) and {"run1", "run2"} <= set(ids)
    assert [value for name, value in read.attributes if name == "href"] == ["#run1", "#run2"]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run whose names, settings and versions try to leave their place."""
    folder = Path(shutil.copytree(COMPARISON, tmp_path / "run"))
    rows = list(csv.reader((folder / "results.csv").read_text().splitlines()))
    with open(folder / "results.csv", "w", newline="") as file:
        csv.writer(file).writerows([[cell.replace("masked-int8", HOSTILE) for cell in row] for row in rows])
    facts = json.loads((folder / "config.json").read_text())
    for part in ("settings", "all_settings"):
        facts[part] |= {"model": HOSTILE, "dataset": f"imagefolder:{HOSTILE}", HOSTILE: HOSTILE}
    (folder / "config.json").write_text(json.dumps(facts))
    versions = {HOSTILE: HOSTILE, "packages": {HOSTILE: HOSTILE}, "commit": f"x; rm -rf ~ {HOSTILE}"}
    (folder / "environment.json").write_text(json.dumps(versions))
    return folder


def test_names_from_a_stranger_are_shown_and_nothing_else(hostile: Path) -> None:
    read = Reader(page([finished(hostile)]))
    loads_nothing(read)
    assert read.text().count(HOSTILE) >= 8 and "git checkout" not in read.text()
    assert ("th", HOSTILE) in read.texts  # the cell of the table


def test_places_of_this_machine_are_left_out(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(COMPARISON, tmp_path / "run"))
    facts = json.loads((folder / "config.json").read_text())
    facts["all_settings"] |= {"output": "/home/someone/secret", "data": "/home/someone/data"}
    (folder / "config.json").write_text(json.dumps(facts))
    assert "/home/someone" not in page([finished(folder)])


@pytest.mark.parametrize(
    ("command", "message"), [("rm", "holds a run of 'rm'"), ("os", "known are"), ("../x", "known are")]
)
def test_unknown_commands_are_refused_by_name(command: str, message: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"command": command, "settings": {}}))
    with pytest.raises(SystemExit) as ending:
        main([str(tmp_path)])
    error = capsys.readouterr().err
    assert ending.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_no_run_is_one_line(tmp_path: Path, capsys) -> None:
    for arguments, message in (([], "name a run folder"), ([str(tmp_path / "none")], "no run folder")):
        with pytest.raises(SystemExit) as ending:
            main(arguments)
        error = capsys.readouterr().err
        assert ending.value.code == 2 and message in error and error.count("\n") == 1


def test_cells_are_escaped_sorted_by_number_and_cut() -> None:
    table = HtmlTable(["<b>", "x"], [[Cell("<i>"), Cell("1.0 ± 0.2", 1.0)]] * (MOST_ROWS + 2))
    assert "button" not in table._repr_html_()  # nothing that does nothing in a notebook
    read = Reader(table.to_html(row_ids="r", caption='"<'))
    assert not {"b", "i"} & set(read.tags) and ("data-order", "1.0") in read.attributes
    assert read.tags.count("tr") == MOST_ROWS + 1 and "2 more rows are in results.csv." in read.text()


def test_headings_and_cells_are_those_of_the_registry() -> None:
    names = {"file_bytes": "file [bytes]", "kappa": "κ", "agreement_with_float": "same as float [%]",
             "error_minus_alone_mean": "error - alone [points]", "technique": "technique",
             "points_per_bit": "ρ [points/bit]", "noise_db_8_stem.0": "noise db 8 stem.0",
             "base_latency_1_ms": "base latency 1 [ms]"}  # fmt: skip
    assert list(html_table(table_of_all(pd.DataFrame({name: [1] for name in names}))).headings) == [
        *names.values()
    ]
    frame = pd.DataFrame(
        {"technique": ["a", "b"], "x_bits_mean": [2.0, 17216.0], "x_bits_half_width": [math.nan, 3]}
    )
    table = html_table(table_of_all(frame))
    assert list(table.headings) == ["technique", "x [bit]"]
    assert [row[1] for row in table.rows] == [Cell("2", 2.0), Cell("17,216.0 ± 3.0", 17216.0)]


@given(
    st.lists(st.floats(1, 1e6), min_size=2, max_size=8, unique_by=lambda number: round(number, 3)), st.data()
)
def test_a_point_finds_its_row(values: list[float], data: st.DataObject) -> None:
    rows = pd.DataFrame({"name": [f"n{place}." for place in range(len(values))], "y_mean": values})
    place = data.draw(st.integers(0, len(values) - 1))
    assert matching_row(rows, [values[place]], "") == place
    percent = rows.assign(y_mean=rows["y_mean"] / 100)
    assert matching_row(percent, [values[place]], "") == place
    same = pd.DataFrame({"name": rows["name"], "y_mean": 0.5})
    assert matching_row(same, [0.5], f"series n{place}.") == place and matching_row(same, [0.5], "") is None
    assert matching_row(rows, [max(values) * 777.7], "") is None


@pytest.fixture
def plotted() -> Iterator[tuple[object, pd.DataFrame]]:
    import matplotlib.pyplot as plt

    rows = pd.DataFrame({"name": ["a", "b", "c"], "x_mean": [1.0, 2.0, 4.0], "error_mean": [0.1, 0.2, 0.3]})
    figure, (left, right) = plt.subplots(ncols=2, figsize=(7, 3), layout="constrained")
    left.errorbar(rows["x_mean"], 100 * rows["error_mean"], yerr=1, marker="o", label="squeezed", capsize=2)
    left.plot([0, 5], [15, 15], label="a line without points")
    left.set(xlabel="x [bit] →", ylabel="error [%]")
    right.barh(["a", "b", "c"], rows["x_mean"], label="bars")
    yield figure, rows
    plt.close(figure)


def test_points_stand_where_they_are_drawn_and_tell_their_values(plotted) -> None:
    figure, rows = plotted
    svg = inline_svg(figure, rows, prefix="p", row_ids="r", label="<l>")
    marks = marks_of(figure, rows)
    assert [mark.row for mark in marks] == [0, 1, 2, 0, 1, 2]
    assert (marks[1].series, marks[1].across, marks[1].along) == ("squeezed", "x [bit]: 2", "error [%]: 20")
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    stamps = root.iter("{http://www.w3.org/2000/svg}use")
    drawn = {
        (round(float(at.attrib["x"])), round(float(at.attrib["y"]))) for at in stamps if "x" in at.attrib
    }
    assert {(round(mark.left * width), round(mark.top * height)) for mark in marks[:3]} <= drawn
    assert svg.count("<circle") == 6 and "var(--grey-ff)" in svg and "#ffffff" not in svg
    assert 'aria-label="&lt;l&gt;"' in svg


def test_places_of_names_are_no_values() -> None:
    import matplotlib.pyplot as plt

    rows = pd.DataFrame({"label": ["one", "two", "three"], "x_mean": [2.0, 1.0, 0.0]})
    figure, axes = plt.subplots()
    for place in range(3):
        axes.plot([0, 1], [place, place], "o")
    axes.set_xticks([0, 1], ["before", "after"])
    axes.set_yticks(range(3), list(rows["label"]))
    figure.draw_without_rendering()
    assert [(mark.along, mark.row) for mark in marks_of(figure, rows)] == [
        (name, row) for row, name in enumerate(rows["label"]) for _ in range(2)
    ]
    plt.close(figure)


def test_phones_get_panels_below_one_another(plotted) -> None:
    figure, _ = plotted
    assert for_phones(figure)
    figure.draw_without_rendering()
    first, second = (axes.get_position() for axes in figure.axes)
    assert first.y0 > second.y1 and abs(first.x0 - second.x0) < 0.1
    assert figure.get_size_inches()[0] == 3.5 and not for_phones(figure)


def browser_path() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def every_page(tmp_path_factory, quick_run) -> dict[str, Path]:
    """A page of each recorded run, and of a quick run of each command that none is recorded of."""
    folder = tmp_path_factory.mktemp("pages")
    runs = {path.name: path for path in RECORDED}
    for command in sorted(set(COMMANDS) - {finished(path).command for path in RECORDED}):
        runs[command] = quick_run(command)[0] / "run"
    paths = {name: folder / f"{name}.html" for name in runs}
    for name, path in runs.items():
        paths[name].write_text(page([finished(path)]), encoding="utf-8")
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_work_in_a_browser(width: int, every_page, hostile: Path, tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if browser_path() is None:
        pytest.skip("Chromium is not installed")
    odd = tmp_path / "page.html"
    odd.write_text(page([finished(hostile)]), encoding="utf-8")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        for path in (*every_page.values(), odd):
            tab = browser.new_page(viewport={"width": width, "height": 800})
            said: list[str] = []
            tab.on("console", lambda message, said=said: said.append(message.text))
            tab.on("pageerror", lambda error, said=said: said.append(str(error)))
            tab.on("dialog", lambda dialog, said=said: said.append(dialog.message))
            tab.on("request", lambda request, said=said: said.append(request.url))
            tab.goto(path.as_uri())
            for scheme in ("light", "dark"):
                tab.emulate_media(color_scheme=scheme)
                assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), path.name
                _sorts(tab)
                _tells(tab)
            assert said == [path.as_uri()], path.name  # one request, and no word
            tab.close()
        browser.close()


def _sorts(tab) -> None:
    table = tab.locator("table.sortable").first
    column = "table => [...table.tBodies[0].rows].map(row => Number(row.cells[%d].dataset.order))"
    place = next(p for p in range(1, 9) if len(set(table.evaluate(column % p))) > 1)
    button = table.locator("thead button").nth(place)
    for direction, descending in (("ascending", False), ("descending", True)):
        button.click()
        values = table.evaluate(column % place)
        assert values == sorted(values, reverse=descending)
        assert table.locator("thead th").nth(place).get_attribute("aria-sort") == direction


def _tells(tab) -> None:
    mark = tab.locator(".mark[data-row]:visible").first
    mark.scroll_into_view_if_needed()
    tab.wait_for_timeout(200)  # scrolling takes the values away
    mark.hover(force=True)
    tip = tab.locator("#tip")
    assert tip.is_visible() and len(tip.locator("p").all()) > 4
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= tab.viewport_size["width"]
    assert tab.locator("tr.lit").count() == 1
    tab.keyboard.press("Escape")
    assert not tip.is_visible() and tab.locator("tr.lit").count() == 0
