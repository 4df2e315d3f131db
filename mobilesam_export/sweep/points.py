"""What a sweep goes over: its options, and the points that they span."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilesam_export.contract.frame import frame_of
from mobilesam_export.errors import UsageError
from mobilesam_export.evaluation.run import EvaluateOptions
from mobilesam_export.files import file_sha256
from mobilesam_export.pipeline import Job
from mobilesam_export.target import load_target


@dataclass(frozen=True)
class Point:
    """One export of a sweep.

    Attributes:
        target: name of a built-in one, or path of a `.toml`.
        recipe: of the target.
        image_size: side of the square input in pixels, or "WIDTHxHEIGHT".
        weights: a source of checkpoints.
    """

    target: str
    recipe: str
    image_size: int | str
    weights: str

    @property
    def name(self) -> str:
        """Of its folder and its row."""
        parts = (
            Path(self.target).stem,
            self.recipe,
            str(self.image_size),
            weights_name(self.weights),
        )
        return "-".join(parts)

    def job(self, folder: Path, *, fit: bool = True) -> Job:
        """The export to its name in a folder; files that fail verification are written, too."""
        return Job(
            target=load_target(self.target),
            recipe=self.recipe,
            checkpoint=self.weights,
            out=folder / self.name,
            image_size=self.image_size,
            fit=fit,
            keep_failed=True,
        )


@dataclass(frozen=True)
class SweepOptions:
    """Options of `sweep`.

    Attributes:
        targets: TARGET for all of its recipes, or TARGET:RECIPE.
        out: folder of bundles and rows.
        checkpoints: sources of weights.
        image_sizes: sides of the square input in pixels, or "WIDTHxHEIGHT".
        images: folder of images to evaluate on; None for held-out scenes.
        annotations: COCO file of instances for them; None to take PyTorch's own masks.
        scenes: number of held-out scenes, without images.
        limit: largest number of images; None for all.
        fit: whether layers are raised in precision where a recipe does not hold.
        ray: divide the points over processes of Ray, see `cluster.connected`; None to do them here.
        workers: of Ray.

    Raises:
        UsageError: no target, or names that cannot be told apart.
    """

    targets: tuple[str, ...]
    out: Path
    checkpoints: tuple[str, ...] = ("official",)
    image_sizes: tuple[int | str, ...] = (1024,)
    images: Path | None = None
    annotations: Path | None = None
    scenes: int = 20
    limit: int | None = None
    fit: bool = True
    ray: str | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        self.evaluation(self.out)  # refuses what `evaluate` would refuse
        names = [weights_name(source) for source in self.checkpoints]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two checkpoints are named {name}; rename one of them")

    def points(self) -> list[Point]:
        """Every combination once, in the order of the options.

        Raises:
            TargetError: there is no such target or recipe. UsageError: a size is none.
        """
        found = dict.fromkeys(
            Point(target, recipe, frame_of(size).option, weights)
            for weights in self.checkpoints
            for size in self.image_sizes
            for target, recipe in _recipes(self.targets)
        )
        return list(found)

    def evaluation(self, bundle: Path, checkpoint: str | None = None) -> EvaluateOptions:
        """How a bundle, exported from this checkpoint, is evaluated."""
        return EvaluateOptions(
            bundles=(bundle,),
            images=self.images,
            annotations=self.annotations,
            scenes=self.scenes,
            limit=self.limit,
            checkpoint=checkpoint,
        )

    def asked(self, point: Point) -> Mapping[str, object]:
        """What the figures of a point depend on."""
        path = Path(point.weights)
        return {
            "weights": file_sha256(path) if path.is_file() else point.weights,
            "images": None if self.images is None else str(self.images.absolute()),
            "annotations": None if self.annotations is None else file_sha256(self.annotations),
            "scenes": None if self.images else self.scenes,
            "limit": self.limit,
            "fit": self.fit,
        }


def weights_name(source: str) -> str:
    """A source of checkpoints as part of a file's name."""
    return Path(source).stem.replace(":", "_")


def _recipes(targets: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for text in targets:
        name, colon, recipe = text.rpartition(":")
        target = load_target(name if colon else text)
        chosen = [target.recipe(recipe)[0]] if colon else target.recipes
        for found in chosen:
            yield name if colon else text, found
