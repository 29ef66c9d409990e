"""Figures inside a page: SVG that follows light and dark, whose points tell their values, in two widths."""

import re
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from analysis.lab.reporting.figures import fit_width
from analysis.report.marks import Mark, marks_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
GREY = re.compile(r"#([0-9a-f]{2})\1\1\b")
PHONE_INCHES = 3.5
SCALE = 128  # pixels of a page for an inch of a figure, at most


def inline_svg(figure: "Figure", rows: "pd.DataFrame", *, prefix: str, row_ids: str, label: str) -> str:
    """A figure as an <svg> element whose points carry the values of the row that they show.

    prefix: of all ids, which are unique on the page; row_ids: of the table's rows, which end in their place
    """
    from matplotlib import rc_context

    drawn = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "deepcapacity"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    root = ET.fromstring(drawn.getvalue())
    for element in root.findall(f"{{{SVG}}}metadata"):
        root.remove(element)
    for style in [*root.iter(f"{{{SVG}}}defs")]:
        for child in style.findall(f"{{{SVG}}}style"):
            style.remove(child)
    for element in root.iter():
        _own_ids(element, prefix)
        if "style" in element.attrib:
            element.set("style", GREY.sub(r"var(--grey-\1)", element.attrib["style"]))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "group", "aria-label": label}
    root.set("style", f"max-width: {SCALE * width / 72:.0f}px")
    group = ET.SubElement(root, f"{{{SVG}}}g", {"class": "marks"})
    for mark in marks_of(figure, rows):
        _add(group, mark, (width, height), row_ids)
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", LINK)
    return ET.tostring(root, encoding="unicode")


def _own_ids(element: ET.Element, prefix: str) -> None:
    for name, value in element.attrib.items():
        if name == "id":
            element.set(name, f"{prefix}-{value}")
        elif value.startswith("#") and name.endswith("href"):
            element.set(name, f"#{prefix}-{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}-"))


def _add(group: ET.Element, mark: Mark, size: tuple[float, float], row_ids: str) -> None:
    place = {"cx": f"{mark.left * size[0]:.2f}", "cy": f"{mark.top * size[1]:.2f}", "r": "5"}
    row = {} if mark.row is None else {"data-row": f"{row_ids}-{mark.row}"}
    circle = ET.SubElement(group, f"{{{SVG}}}circle", {"class": "mark", **place, **row})
    lines = [mark.series, mark.across, mark.along]
    ET.SubElement(circle, f"{{{SVG}}}title").text = "\n".join(line for line in lines if line)


def greys(text: str) -> dict[str, tuple[str, str]]:
    """The greys that a page's figures use: name -> the grey in the light, and in the dark."""
    names = sorted(set(re.findall(r"var\(--grey-([0-9a-f]{2})\)", text)))
    dark = {name: round(0xE6 - int(name, 16) / 255 * (0xE6 - 0x1B)) for name in names}
    return {name: (f"#{name * 3}", f"#{dark[name]:02x}" + f"{dark[name]:02x}" * 2) for name in names}


def for_phones(figure: "Figure") -> bool:
    """Draw a figure anew as narrow as a phone: panels below one another, legends above. False if it is so."""
    if figure.get_size_inches()[0] <= PHONE_INCHES:
        return False
    fit_width(figure, PHONE_INCHES)
    return True
