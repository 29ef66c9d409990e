"""Make a network smaller, and know exactly what that cost.

Python 3.14 has a standard-library package of the same name (PEP 784), hence the guard. This file imports
nothing heavy: every technique is a module of its own.
"""

import sys

if sys.version_info >= (3, 14):
    raise ImportError(
        "deepcapacity's package `compression` collides with Python 3.14's standard library package of the "
        "same name (PEP 784); use Python 3.11, 3.12 or 3.13"
    )
