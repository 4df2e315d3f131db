"""An encoder whose weights change in one place: what comes before is not computed again."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mobilesam_export.contract import Array
from mobilesam_export.graphs import Graph
from mobilesam_export.graphs.encoder import PARTS, Encoder


class ResumedEncoder:
    """Answers to one image.

    Args:
        graph: of an encoder, with the weights that it has before any change.
        inputs: the contract's arrays by name.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, Array]) -> None:
        assert isinstance(graph.module, Encoder)
        self.encoder, (self.image,) = graph.module, graph.module_inputs(inputs)
        self.taken: list[Tensor] = []  # by the first of PARTS, with no weight before them changed

    @torch.no_grad()
    def embedding(self, changed: Collection[str]) -> Array:
        """The embedding with the weights as they are now.

        Args:
            changed: names of all weights that are not as they were, one or more; what their
                layers take may be rounded as well.
        """
        owners = {name.partition(".")[0] for name in changed}
        in_head = not owners <= {*PARTS}
        start = 0 if in_head else min(PARTS.index(owner) for owner in owners)
        x = self.encoder.head(self.image) if in_head else self._taken(start)
        embedding: Array = self.encoder.resumed(start, x).numpy()
        return embedding

    def _taken(self, place: int) -> Tensor:
        """What a part takes where no part before it has changed."""
        if not self.taken:
            self.taken.append(self.encoder.head(self.image))
        for part in PARTS[len(self.taken) - 1 : place]:
            self.taken.append(getattr(self.encoder, part)(self.taken[-1]))
        return self.taken[place]
