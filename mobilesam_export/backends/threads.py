"""How many threads PyTorch uses, which its sums depend on."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """While inside, PyTorch computes with so many threads.

    With one, the same inputs give the same bits whatever number of cores a machine has: products
    are summed in one order. Elsewhere the last bit may differ, and a weight that is chosen by such
    a sum, and all that are chosen after it, with it.

    Args:
        count: of threads, 1 or more.
    """
    import torch  # in here: files are checked without it

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
