"""Adds the start-up files of Python 3.14 and later to the wheel and to the editable install.

`capacity/_startup.py` says what they do. It goes into the wheel twice, and a file that is named here goes
only where it is told to: hence the copy.
"""

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CALLERS = ("deepcapacity.pth", "deepcapacity.start")


class StartupFiles(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    """Puts them at the top of site-packages."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.scratch = Path(mkdtemp())
        source = self.scratch / "_deepcapacity_startup.py"
        shutil.copyfile(Path(self.root, "capacity", "_startup.py"), source)
        files = {str(source): source.name, **{f".build/{name}": name for name in CALLERS}}
        build_data["force_include_editable" if version == "editable" else "force_include"].update(files)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self.scratch)
