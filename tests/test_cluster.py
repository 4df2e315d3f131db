"""Work divided over processes of Ray: results in order, errors as they are, kills survived."""

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from mobilesam_export.cluster import LOCAL, divided
from mobilesam_export.errors import ClusterError, MeasurementError

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra [ray] is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's, of its own options
]


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    raise MeasurementError(f"{number} is refused")


def square_unless_new(item: tuple[Path, int]) -> int:
    """The first process to come here dies."""
    mark, number = item
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def test_results_are_in_order() -> None:
    assert list(divided(square, range(7), LOCAL, 2)) == [0, 1, 4, 9, 16, 25, 36]


def test_an_error_is_the_function_s_own() -> None:
    with pytest.raises(MeasurementError, match=r"^[01] is refused$"):
        list(divided(refuse, range(3), LOCAL, 2))


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    items = [(tmp_path / "mark", number) for number in range(5)]
    assert list(divided(square_unless_new, items, LOCAL, 2)) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://:x"])
def test_a_cluster_that_is_not_there_is_one_line(address: str) -> None:
    with pytest.raises(ClusterError, match=f"^no Ray at {address}: "):
        list(divided(square, range(3), address, 2))
