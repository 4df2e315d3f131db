"""Recovery: training in which the encoder computes as a recipe's file will.

The student keeps the layout of a checkpoint. In each step its weights are those that the file will
restore from fewer bits, and what layers take is rounded as there; gradients go to the weights
before rounding, as if that were not there (the straight-through estimator: Bengio et al., 2013,
arXiv:1308.3432; in quantised training Jacob et al., 2018, arXiv:1712.05877). Written are the
rounded weights: they lie on the recipe's grid, so that exporting them rounds nothing more.

Scales of batch norms, and of LayerNorms before a linear layer, stay as they are: the export form
folds them into weights that are trained themselves.
"""

import contextlib
import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobilesam_export.backends import Backend, Settings, get_backend
from mobilesam_export.backends.simulation import Simulation
from mobilesam_export.contract import DEFAULT_POINTS, Contract
from mobilesam_export.distillation.layerwise import Moments, centre, fit_layers, solve
from mobilesam_export.distillation.origins import Origin, find_origins
from mobilesam_export.distillation.rounded_inputs import InputRounding, second_moment
from mobilesam_export.errors import UsageError
from mobilesam_export.graphs import Graph, names, split_graphs
from mobilesam_export.model import Sam
from mobilesam_export.model.tiny_vit import TinyViT
from mobilesam_export.target import Recipe, Target, load_target


@dataclass(frozen=True)
class Damage:
    """The recipe whose damage a student learns to bear.

    Attributes:
        target: of the file.
        name: of the recipe in it.
        recipe: itself.
        backend: that writes the file.
        settings: what the backend reads from the recipe.
    """

    target: Target
    name: str
    recipe: Recipe
    backend: Backend
    settings: Settings

    def __str__(self) -> str:
        return f"{self.target.name}:{self.name}"

    @property
    def sha256(self) -> str:
        """Of the recipe and the form of its graphs, under whatever name."""
        return hashlib.sha256(repr((self.recipe, self.target.graph)).encode()).hexdigest()

    def simulation(self, encoder: Graph) -> Simulation | None:
        """See `Backend.simulation`."""
        return self.backend.simulation(encoder, self.recipe, self.settings)

    def contract(self, image_size: int) -> Contract:
        """Of the files."""
        return Contract(image_size, DEFAULT_POINTS, self.target.graph)


def damage_of(target: Target, name: str | None, image_size: int) -> Damage:
    """Look a recipe up whose damage can be simulated.

    Args:
        target: of the file.
        name: of the recipe, or None for the target's default.
        image_size: S.

    Raises:
        TargetError: there is no such recipe, or the backend does not take it.
        UsageError: it stores weights as they are, or its numbers cannot be simulated.
    """
    name, recipe = target.recipe(name)
    label = f"{target.name}:{name}"
    if not recipe.compressed:
        raise UsageError(
            f"{label} has nothing to recover: its weights are {recipe.weights}; choose a recipe "
            "with weights in fewer bits"
        )
    with target.locating("backend"):
        backend = get_backend(target.backend)
    with target.locating("recipe", name):
        settings = backend.parse_recipe(recipe, target.graph, target.options(recipe))
        found = Damage(target, name, recipe, backend, settings)
        names.check_patterns(recipe, found.contract(image_size))
    if found.simulation(names.skeletons(found.contract(image_size))[0]) is None:
        raise UsageError(
            f"{label} cannot be recovered: PyTorch cannot simulate its numbers while it trains "
            f"(weights {recipe.weights}, activations {recipe.activations})"
        )
    return found


def parse_damage(student: str, image_size: int) -> Damage | None:
    """TARGET:RECIPE -> the recipe; None for the name or TOML of an architecture.

    Raises:
        MobileSamExportError: see `damage_of`; or there is no such target.
    """
    target, colon, recipe = student.rpartition(":")
    return damage_of(load_target(target), recipe, image_size) if colon else None


class Recovery:
    """Simulates a recipe's numbers in an encoder that has the layout of a checkpoint.

    Args:
        damage: the recipe.
        sam: the student, on the CPU, whose norms keep their scales from now on.
        device: of the encoders.
    """

    def __init__(self, damage: Damage, sam: Sam, device: torch.device) -> None:
        contract = damage.contract(sam.image_size)
        simulation = damage.simulation(split_graphs(sam, contract)[0])
        assert simulation is not None  # noqa: S101 `damage_of` has asked
        self._roundings, self._starts = simulation.weights, simulation.starts
        wanted = {*simulation.weights, *simulation.inputs}
        found = find_origins(sam, contract.form, wanted)
        self._origins: dict[str, Origin] = {k: origin.to(device) for k, origin in found.items()}
        self._inputs = InputRounding(
            {self._layer(name): inputs for name, inputs in simulation.inputs.items()}
        )

    def freeze(self, encoder: nn.Module) -> None:
        """Leave out of training what the export form folds into other weights."""
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.weight.requires_grad_(False)

    @property
    def rounds_first(self) -> bool:
        """Whether the recipe chooses how to round (`Simulation.starts`): a run begins with that."""
        return bool(self._starts)

    @torch.no_grad()
    def begin(self, encoder: TinyViT, images: Sequence[Tensor]) -> None:
        """Give the encoder, in place, weights on the grid with which it loses little.

        Each layer is fitted to what the encoder had there, and then rounded as the recipe begins
        a file; see `layerwise`. For recipes of which `rounds_first` is true.

        Args:
            encoder: float32, not in training yet.
            images: (B, 3, S, S) float32, normalised.
        """
        parameters = dict(encoder.named_parameters())
        starts: dict[str, list[str]] = {}
        for name in self._starts:
            starts.setdefault(self._layer(name), []).append(name)

        def fit(layer: str, moments: Moments) -> None:
            solve(encoder.get_submodule(layer), moments)
            if layer not in starts:
                return
            moment = second_moment(encoder, layer, moments)
            for name in starts[layer]:
                origin = self._origins[name]
                parameter = parameters[origin.parameter]
                chosen = self._starts[name](origin.read(parameter).cpu().numpy(), moment)
                origin.write(parameter.data, torch.from_numpy(chosen).to(parameter.device))
            centre(encoder.get_submodule(layer), moments)

        exact = copy.deepcopy(encoder)
        with self._inputs.applied(encoder):
            fit_layers(exact, encoder, images, fit)

    def _layer(self, name: str) -> str:
        """The model's layer of a weight of the export form."""
        return self._origins[name].parameter.removesuffix(".weight")

    def observe(self, encoder: nn.Module, images: Iterable[Tensor]) -> None:
        """Find the ranges of activations that the file will have fixed; see `InputRounding`."""
        self._inputs.observe(encoder, images)

    @contextlib.contextmanager
    def simulated(self, encoder: nn.Module) -> Iterator[None]:
        """While it is open, the encoder has the file's weights and rounds as the file does.

        Its gradients are those of the weights that it has outside.
        """
        parameters = dict(encoder.named_parameters())
        kept = {name: parameters[name].detach().clone() for name in self._touched()}
        try:
            self._round(parameters, kept)
            with self._inputs.applied(encoder):
                yield
        finally:
            for name, value in kept.items():
                parameters[name].data.copy_(value)

    def _touched(self) -> set[str]:
        return {self._origins[name].parameter for name in self._roundings}

    @torch.no_grad()
    def _round(self, parameters: dict[str, nn.Parameter], kept: dict[str, Tensor]) -> None:
        for name, rounding in self._roundings.items():
            origin = self._origins[name]
            weight = origin.read(kept[origin.parameter])
            rounded = torch.from_numpy(rounding(weight.cpu().numpy()))
            origin.write(parameters[origin.parameter].data, rounded.to(weight.device))
