"""PyTorch's threads for a while."""

import pytest
import torch

from mobilesam_export.backends.threads import torch_threads


def test_there_are_as_many_as_asked_for_and_then_as_before() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_an_error_leaves_them_as_they_were() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), torch_threads(before + 1):
        torch.zeros(2) @ torch.zeros(3)
    assert torch.get_num_threads() == before
