"""Targets: `targets/*.toml` or a user's own file -> frozen dataclasses. Unknown keys are errors.

A target says which backend writes the files, in which export form, and with which recipes.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from mobilesam_export.errors import TargetError

LAYOUTS = ("channel-last", "channel-first", "batch-one")
UPSAMPLINGS = ("transposed", "pointwise")
PIXELS = ("uint8", "float32", "image", "sam")
PROMPTS = ("slots", "sam")
STRIPS = (0, 1, 2, 4, 8, 16)
GELUS = ("none", "tanh")  # torch's words; "none" is the exact form
ATTENTIONS = ("manual", "sdpa", "per-head")
HIDDEN = ("whole", "parts")
PRECISIONS = ("float32", "float16")
COMPRESSED = ("int8", "int4", "palette8", "palette6", "palette4")  # palettes of 256, 64, 16 numbers
# int8 by ranges found at run time; int8 or int16 by ranges fixed at export, from calibration
ACTIVATIONS = (*PRECISIONS, "dynamic-int8", "int8", "int16")
EXCEPTIONS = ("float32", "float16", "int8", "palette8", "palette6", "palette4")
GRAPHS = ("encoder", "decoder")
GRANULARITIES = ("per_tensor", "per_channel", "per_grouped_channel")

Table = TypeVar("Table")


@dataclass(frozen=True)
class GraphForm:
    """How the graphs are written down, whatever the weights.

    Attributes:
        layout: where the channels are in TinyViT's transformer stages.
        pixels: what the encoder takes. "uint8" or "float32" (1, S, S, 3); "image" a Core ML
            image of S x S; "sam" (H, W, 3) float32 with H, W <= S. RGB 0..255 in each case.
        prompt: "slots" (a fixed number, each filled or neutral) or "sam" (any number, with
            SAM's own ONNX names).
        gelu: "none" (exact) or "tanh".
        attention: how channel-first windows attend. "manual" (two matrix products), "sdpa" (the
            fused operation of iOS 18), or "per-head" (one head at a time).
        hidden: whether an expanded map (of bottlenecks and MLPs) is held "whole", or in "parts"
            of its channels of at most 4 S**2 numbers, which takes less memory; in layouts other
            than channel-first this is about bottlenecks only.
        strips: for channel-last: in so many strips of rows the encoder is computed down to its map
            of S/8 rows, one after the other, and the second stage in a few parts, so that its
            largest maps never exist as a whole; 1x1 convolutions are products of pixels and a
            matrix, which recipes can quantise pixel by pixel. 0 leaves all that as it is.
        upsampling: for batch-one: the decoder's two transposed convolutions as such, or as
            "pointwise" ones, which every GPU takes.
    """

    layout: str
    pixels: str
    prompt: str
    gelu: str = "none"
    attention: str = "manual"
    hidden: str = "whole"
    strips: int = 0
    upsampling: str = "transposed"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("layout", LAYOUTS),
            ("pixels", PIXELS),
            ("prompt", PROMPTS),
            ("gelu", GELUS),
            ("attention", ATTENTIONS),
            ("hidden", HIDDEN),
            ("strips", STRIPS),
            ("upsampling", UPSAMPLINGS),
        ):
            _check_choice(f"graph.{name}", getattr(self, name), allowed)
        for name, layout in (
            ("attention", "channel-first"),
            ("strips", "channel-last"),
            ("upsampling", "batch-one"),
        ):
            found = getattr(self, name)
            if found != type(self).__dataclass_fields__[name].default and self.layout != layout:
                raise TargetError(
                    f'graph.{name} is for layout = "{layout}", found {found!r} '
                    f'and layout "{self.layout}"'
                )
        if self.strips and self.hidden != "whole":
            raise TargetError(f"graph.strips already makes parts, found hidden {self.hidden!r} too")


@dataclass(frozen=True)
class Tolerance:
    """How far an exported file may be from float32 PyTorch, over all verification prompts.

    Attributes:
        embedding_psnr_db: least peak signal-to-noise ratio of the image embedding, in dB, the
            peak being the largest absolute value of the reference.
        logits_max_abs_error: most by which a mask logit may differ.
        iou_max_abs_error: most by which a predicted IoU may differ.
        mask_iou: least intersection over union of the chosen mask at the picture's size.
    """

    embedding_psnr_db: float
    logits_max_abs_error: float
    iou_max_abs_error: float
    mask_iou: float


@dataclass(frozen=True)
class Recipe:
    """What the numbers in the files are.

    Attributes:
        weights: type in which weights are stored: a precision, "int8" or a palette.
        activations: type in which the file computes: one of ACTIVATIONS.
        tolerance: what `verify` holds the files to.
        keep_float32: what stays float32 all the same, in the backend's own words.
        granularity: what shares one scale or one palette; "" unless weights are compressed.
        group_size: channels that share a palette where the granularity is per_grouped_channel.
        weight_threshold: tensors of up to so many numbers are not compressed.
        exceptions: for each graph, patterns of weights' names in the backend's own words -> in
            what those are stored instead: "float16" (not compressed), or one palette per tensor.
        convert: options of the backend that this recipe has other than the target's.
        quantize: how the backend quantises, in its own words and checked there.
        calibrate_weights: whether compressed weights are chosen by what they do to sample inputs.
    """

    weights: str
    activations: str
    tolerance: Tolerance
    keep_float32: tuple[str, ...] = ()
    granularity: str = ""
    group_size: int = 0
    weight_threshold: int = 0
    exceptions: Mapping[str, Any] = field(default_factory=dict)
    convert: Mapping[str, Any] = field(default_factory=dict)
    quantize: Mapping[str, Any] = field(default_factory=dict)
    calibrate_weights: bool = False

    def __post_init__(self) -> None:
        _check_choice("weights", self.weights, (*PRECISIONS, *COMPRESSED))
        _check_choice("activations", self.activations, ACTIVATIONS)
        self._check_compression()

    @property
    def compressed(self) -> bool:
        """Whether weights are stored in fewer bits than they are computed in."""
        return self.weights in COMPRESSED

    @property
    def calibrated(self) -> bool:
        """Whether the export needs sample pictures."""
        return self.activations in ("int8", "int16") or self.calibrate_weights

    def _check_compression(self) -> None:
        """Compressed weights need to say how, and others have nothing to say."""
        if not self.compressed:
            if self.granularity or self.group_size or self.weight_threshold or self.exceptions:
                raise TargetError(
                    "granularity, group_size, weight_threshold and exceptions are for compressed "
                    f"weights, but weights are {self.weights!r}"
                )
            return
        _check_choice("granularity", self.granularity, GRANULARITIES)
        grouped = self.granularity == "per_grouped_channel"
        if self.weight_threshold < 0 or grouped != (self.group_size > 0):
            raise TargetError(
                f"granularity is {self.granularity!r}, group_size {self.group_size} and "
                f"weight_threshold {self.weight_threshold}; expected a group_size of 1 or more "
                "for per_grouped_channel, none for others, and a threshold of 0 or more"
            )
        for graph, patterns in self.exceptions.items():
            _check_choice("a graph in exceptions", graph, GRAPHS)
            if not isinstance(patterns, dict):
                raise TargetError(f"exceptions, {graph}: expected a table, found {patterns!r}")
            for pattern, weights in patterns.items():
                _check_choice(f"exceptions, {graph}, {pattern}", weights, EXCEPTIONS)


@dataclass(frozen=True)
class Target:
    """One kind of file for one kind of runtime.

    Attributes:
        name: the file's stem, which is also the subcommand's name.
        description: one line for `--help` and the README.
        backend: name of a module in `mobilesam_export.backends`.
        default_recipe: name of the recipe used when none is asked for.
        graph: the export form.
        convert: options of the backend, checked there.
        recipes: by name.
    """

    name: str
    description: str
    backend: str
    default_recipe: str
    graph: GraphForm
    recipes: Mapping[str, Recipe]
    convert: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, name: str | None) -> tuple[str, Recipe]:
        """The recipe of this name, or the default one.

        Raises:
            TargetError: there is none of that name.
        """
        name = name or self.default_recipe
        if name not in self.recipes:
            known = ", ".join(self.recipes)
            raise TargetError(f"target {self.name} has no recipe {name!r}; it has: {known}")
        return name, self.recipes[name]


def builtin_targets() -> list[str]:
    """Names of the targets that come with the package, sorted."""
    folder = resources.files("mobilesam_export.targets")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_target(name: str) -> Target:
    """Read a target by name, or from the path of a user's own `.toml`.

    Raises:
        TargetError: no such target; not TOML; a key is unknown, missing or of a wrong value.
    """
    if name in builtin_targets():
        source = resources.files("mobilesam_export.targets") / f"{name}.toml"
        return parse_target(name, source.read_text(encoding="utf-8"))
    path = Path(name)
    if path.suffix != ".toml":
        known = ", ".join(builtin_targets())
        raise TargetError(f"no target {name!r}; there are: {known}, or a path to a .toml file")
    try:
        return parse_target(path.stem, path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise TargetError(f"cannot read target {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise TargetError(f"cannot read target {path}: not UTF-8 text") from exc


def parse_target(name: str, text: str) -> Target:
    """Parse one target file; see `load_target`."""
    where = f"target {name}"
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise TargetError(f"{where}: not valid TOML: {exc}") from exc
    recipes = table.pop("recipe", {})
    if not isinstance(recipes, dict) or not recipes:
        raise TargetError(f"{where}: needs at least one [recipe.NAME] table")
    for key in ("name", "recipes"):  # fields of Target, but not keys of a file
        if key in table:
            raise TargetError(f"{where}: unknown key {key!r}; recipes are [recipe.NAME] tables")
    table["recipes"] = {
        key: _parse(Recipe, value, f"{where}, recipe {key}") for key, value in recipes.items()
    }
    target = _parse(Target, {"name": name, **table}, where)
    _check_choice(f"{where}: default_recipe", target.default_recipe, tuple(recipes))
    return target


def _parse(kind: type[Table], table: object, where: str) -> Table:
    """Make one dataclass of one TOML table, and of the tables in it."""
    if not isinstance(table, dict):
        raise TargetError(f"{where}: expected a table, found {table!r}")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise TargetError(f"{where}: unknown key {key!r}; known keys: {', '.join(known)}")
    for key, info in known.items():
        if key not in table and info.default is MISSING and info.default_factory is MISSING:
            raise TargetError(f"{where}: missing key {key!r}")
    values = {key: _value(hints[key], item, f"{where}, {key}") for key, item in table.items()}
    try:
        return kind(**values)
    except TargetError as exc:
        raise TargetError(f"{where}: {exc}") from exc


def _value(hint: Any, value: object, where: str) -> Any:  # noqa: ANN401 what a TOML holds
    if hint in (GraphForm, Tolerance):
        return _parse(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint == tuple[str, ...]:
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise TargetError(f"{where}: expected a list of strings, found {value!r}")
        return tuple(value)
    if get_origin(hint) is Mapping and not isinstance(value, dict):
        raise TargetError(f"{where}: expected a table, found {value!r}")
    if hint is bool and not isinstance(value, bool):
        raise TargetError(f"{where}: expected true or false, found {value!r}")
    if hint in (str, float, int) and (not isinstance(value, hint) or isinstance(value, bool)):
        raise TargetError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _check_choice(what: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise TargetError(f"{what} is {value!r}; expected one of: {', '.join(map(str, allowed))}")
