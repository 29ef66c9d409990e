"""The experiments: `deepcapacity NAME`, or `python -m analysis.NAME`; `deepcapacity` alone lists them.

Each command is a file of that name, or a package with a `__main__.py`.
"""

import os
import signal
import sys
from importlib.util import find_spec

EXIT_STATUS = (
    "Exit status: 0 done; 2 bad input, disk or set-up; 130 interrupted, 143 terminated; 1 any other error."
)


def _fault() -> "str | None":
    """What keeps the commands from working here, and what to do; None where nothing does."""
    if sys.hexversion < 0x030B0000:
        return f"DeepCapacity needs Python 3.11 or later; this is {sys.version.split()[0]}"
    parent = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    standard = os.path.dirname(os.__file__)  # has a `compression` too, which becomes one with ours
    for name in ("capacity", "compression"):
        spec = find_spec(name)
        places = [] if spec is None else spec.submodule_search_locations or [spec.origin or ""]
        allowed = {os.path.realpath(os.path.join(folder, name)) for folder in (parent, standard)}
        if allowed.isdisjoint(map(os.path.realpath, places)):
            return (
                f"{places[0] if places else 'nothing'} is found in place of DeepCapacity's package {name}: "
                "run the command as `deepcapacity NAME`, which does not look into the current folder first, "
                "or from another folder; neither helps against a folder in PYTHONPATH"
            )
    return None


_command = os.path.splitext(os.path.basename(sys.argv[0]))[0] in ("-m", "deepcapacity")
if _command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends without a traceback until it is awaited
if (_problem := _fault()) is not None:
    if _command:
        print(f"error: {_problem}", file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(_problem)

from analysis import _moved as _moved  # noqa: E402
