"""Which images a step sees: a function of the seed and the step, so that a run can be resumed.

Nothing is remembered between steps. A step of a resumed run, or of one divided over processes, has
the images that it would have had anyway.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mobilesam_export import prompts
from mobilesam_export.contract import Contract
from mobilesam_export.distillation.dataset import ImageSet, UnlabelledImage
from mobilesam_export.distillation.views import view
from mobilesam_export.errors import ImageError


@dataclass(frozen=True)
class Batch:
    """The images of one step in one process.

    Attributes:
        pixels: (B, S, S, 3) uint8 RGB.
        keys: of the images, see `key_of`.
        sizes: (height, width) of each in pixels of the square.
    """

    pixels: Tensor
    keys: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]


def key_of(image: UnlabelledImage, number: int) -> str:
    """What the embedding of a view is cached as."""
    return f"{image.content}-{number}"


def square(
    image: UnlabelledImage, number: int, contract: Contract
) -> tuple[Tensor, tuple[int, int]]:
    """A view in the encoder's input, (S, S, 3) uint8, and its (height, width) there.

    Raises:
        ImageError: its file cannot be read any more.
    """
    pixels = view(image.read(), image.content, number)
    size = prompts.resized_size(*prompts.height_and_width(pixels), contract.size.shape)
    return torch.from_numpy(prompts.encoder_inputs(pixels, contract)["image"][0]), size


@dataclass(frozen=True)
class Order:
    """Images and views of every sample of a run.

    Attributes:
        images: how many there are.
        views: of each; 0 for another one in each epoch.
        seed: another one gives another order.
    """

    images: int
    views: int
    seed: int

    def sample(self, index: int) -> tuple[int, int]:
        """The number of the image, and of its view, of a sample counted from the run's start."""
        epoch, place = divmod(index, self.images)
        number = epoch if self.views == 0 else epoch % self.views
        return int(_permutation(self.images, self.seed, epoch)[place]), number


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


@dataclass(frozen=True)
class Steps(Dataset[Batch | ImageError]):
    """The batches of one process, by step.

    Attributes:
        images: of the run.
        order: of them.
        contract: of the encoder's input.
        batch: images of a step, of all processes together.
        rank: of this process.
        processes: how many there are; they divide `batch`.
    """

    images: ImageSet
    order: Order
    contract: Contract
    batch: int
    rank: int = 0
    processes: int = 1

    def __getitem__(self, step: int) -> Batch | ImageError:
        # An error is given back and not raised: a loader's process would add its traceback.
        samples = range(step * self.batch + self.rank, (step + 1) * self.batch, self.processes)
        chosen = [self.order.sample(index) for index in samples]
        training = self.images.training
        try:
            squares = [square(training[image], number, self.contract) for image, number in chosen]
        except ImageError as exc:
            return exc
        keys = tuple(key_of(training[image], number) for image, number in chosen)
        pixels, sizes = zip(*squares, strict=True)
        return Batch(torch.stack(pixels), keys, sizes)

    def load(self, first: int, last: int, readers: int) -> Iterator[Batch]:
        """The batches of steps first to last - 1, read ahead.

        Args:
            first: step.
            last: step, exclusive.
            readers: processes that read; 0 to read here.

        Raises:
            ImageError: a file cannot be read any more.
        """
        loader = DataLoader(self, batch_size=None, sampler=range(first, last), num_workers=readers)
        for batch in loader:
            if isinstance(batch, ImageError):
                raise batch
            yield batch
