"""Functions of a library that others stand in for: there within, and the library's own afterwards."""

import types

import pytest

from compression.quantization.replacing import replaced


def test_its_own_come_back_after_an_error_too() -> None:
    class Library:
        made = classmethod(lambda kind: "own")

    own = vars(Library)["made"]
    with pytest.raises(KeyError), replaced(Library, {"made": classmethod(lambda kind: "ours")}):
        assert Library.made() == "ours"
        raise KeyError
    assert vars(Library)["made"] is own and Library.made() == "own"
    module = types.SimpleNamespace(one=1, two=2)
    with replaced(module, {"one": 3}), replaced(module, {"one": 4, "two": 5}):
        assert (module.one, module.two) == (4, 5)
    assert (module.one, module.two) == (1, 2)
