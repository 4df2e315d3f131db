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
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        print(1 / 0)
    assert torch.get_num_threads() == before
