"""What `capacity` exports: a function's name is no module's."""

import importlib
import pkgutil

import pytest

import capacity
from capacity._old_modules import SHADOWED


def test_no_export_shadows_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(capacity.__path__)}
    assert modules & set(capacity.__all__) == set()


@pytest.mark.parametrize("name", SHADOWED)
def test_importing_from_a_former_module_warns_and_leaves_the_function(name: str) -> None:
    former = importlib.import_module(f"capacity.{name}")
    with pytest.warns(DeprecationWarning, match=f"import {name} from capacity, not from capacity.{name}"):
        assert getattr(former, name) is getattr(capacity, name)
    assert getattr(capacity, name).__module__ == f"capacity._{name}"
    assert not hasattr(former, "__path__")
