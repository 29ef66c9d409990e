"""Adds the start-up files of Python 3.14 and later to the wheel and to the editable install.

See `capacity/_startup.py` for what they do.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = {
    "capacity/_startup.py": "_deepcapacity_startup.py",
    ".build/deepcapacity.pth": "deepcapacity.pth",
    ".build/deepcapacity.start": "deepcapacity.start",
}


class StartupFiles(BuildHookInterface):
    """Puts them at the top of site-packages."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        key = "force_include_editable" if version == "editable" else "force_include"
        build_data[key].update(FILES)
