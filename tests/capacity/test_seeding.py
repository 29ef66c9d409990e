"""seed_generators(): the draws of torch.manual_seed, without the stack that it notes."""

import traceback

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from capacity.seeding import seed_generators


@given(st.integers(0, 2**63 - 1))
def test_what_is_drawn_is_what_torch_draws(seed: int) -> None:
    seed_generators(seed)
    ours = torch.rand(3), torch.randperm(5), torch.initial_seed()
    torch.manual_seed(seed)
    theirs = torch.rand(3), torch.randperm(5), torch.initial_seed()
    assert ours[0].equal(theirs[0]) and ours[1].equal(theirs[1]) and ours[2] == theirs[2] == seed


def test_no_stack_is_noted_where_there_is_no_other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.accelerator.is_available():
        pytest.skip("torch.manual_seed is what seeds other devices")
    noted = []
    monkeypatch.setattr(traceback, "format_stack", lambda *_: noted.append(1) or [])
    seed_generators(3)
    assert not noted
    torch.manual_seed(3)
    assert noted
