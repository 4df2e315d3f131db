"""Recipes fitted to weights: what is raised, how few trials that takes, and the resulting TOML."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import Contract
from mobilesam_export.errors import TargetError
from mobilesam_export.fitting import search
from mobilesam_export.fitting.outcome import Fit, Trial
from mobilesam_export.fitting.problem import Problem
from mobilesam_export.fitting.ranking import Candidate, layer_of
from mobilesam_export.fitting.simulation import Simulation
from mobilesam_export.target import Recipe, builtin_targets, load_target, parse_target
from mobilesam_export.target.fitted import fitted_toml, raised
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status
from tests.cli_runner import FAILED, USAGE, warm
from tests.conftest import ROOT, WEIGHTS
from tests.fault_points import reuse_files

LAYERS = 16
COMPRESSED = [
    (name, recipe)
    for name in builtin_targets()
    for recipe, parsed in load_target(name).recipes.items()
    if parsed.compressed
]


@dataclass
class World:
    """Files that hold once the recipe excepts enough; every conversion is counted."""

    needed: int
    unknown: str = ""
    conversions: int = 0
    last: int = -1  # how many layers are raised in the files that are there
    kept: int = -1  # and in those that are set aside

    def make(self, recipe: Recipe) -> Trial:
        exceptions = recipe.exceptions.get("encoder", {})
        if self.unknown in exceptions:
            raise TargetError("no such weight", "exceptions", "encoder", self.unknown)
        self.conversions, self.last = self.conversions + 1, len(exceptions)
        status = Status.PASSED if len(exceptions) >= self.needed else Status.FAILED
        failures = () if status is Status.PASSED else ("mask IoU",)
        return Trial(len(exceptions), Report(status, failures=failures))

    def keep(self) -> None:
        self.kept = self.last

    def restore(self) -> None:
        self.last = self.kept


def fitted(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    estimate: int = 1,
    stored: Any = ("float16",),
    float32: str = "",
) -> Fit:
    """Fit a recipe with LAYERS layers, of which a simulation needs `estimate`.

    `float32` is what the graphs miss in float32.
    """
    compressed = {"encoder": [f"b{number:02}.weight" for number in range(LAYERS)]}
    monkeypatch.setattr(
        search,
        "_ranked",
        lambda problem: [
            Candidate("encoder", layer_of(name)) for name in problem.compressed["encoder"]
        ],
    )
    monkeypatch.setattr(Simulation, "holds", lambda _, chosen, stored: len(chosen) >= estimate)
    monkeypatch.setattr(Simulation, "correct", lambda *_: None)
    monkeypatch.setattr(search, "_missed_in_float32", lambda _: float32)
    recipe = replace(load_target("onnx").recipes["w8"], exceptions={})
    problem = Problem(
        recipe=recipe,
        stored=stored,
        accepts=lambda _: True,
        graphs=(SimpleNamespace(spec=SimpleNamespace(name="encoder")),),  # type: ignore[arg-type]
        compressed=compressed,
        contract=Contract(256, 6, load_target("onnx").graph),
        expected=(),
        ranked_on=(),
        first=Trial(0, Report(Status.FAILED)),
    )
    return search.fit(problem, world)


@pytest.mark.parametrize("needed", [1, 5, LAYERS])
@pytest.mark.parametrize("estimate", [1, 6, LAYERS])
def test_the_files_that_are_kept_hold(
    needed: int, estimate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(needed)
    fit = fitted(world, monkeypatch, estimate)
    kept = len(fit.raised["encoder"])
    assert fit.last.report.status is Status.PASSED
    assert needed <= kept == world.last == len(fit.recipe.exceptions["encoder"])
    assert fit.trials == world.conversions + 1 <= 10


def test_a_right_estimate_takes_few_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fitted(World(5), monkeypatch, estimate=5)
    assert len(fit.raised["encoder"]) == 5
    assert fit.trials == 3  # the recipe, five layers, three


def test_the_groups_that_harm_most_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fitted(World(3), monkeypatch, estimate=3)
    assert fit.raised == {"encoder": ["b00", "b01", "b02"]}
    assert fit.recipe.exceptions == {"encoder": dict.fromkeys(["b00", "b01", "b02"], "float16")}


def test_where_nothing_holds_the_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fitted(World(LAYERS + 1), monkeypatch, estimate=LAYERS + 1)
    assert fit.last.report.status is Status.FAILED


def test_where_float32_misses_as_well_nothing_is_converted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(3)
    fit = fitted(world, monkeypatch, float32="float32 misses it as well")
    assert world.conversions == 0
    assert "cannot be fitted to these weights: float32 misses it as well" in fit.summary()


def test_where_all_layers_raised_miss_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(LAYERS + 1)
    fit = fitted(world, monkeypatch, estimate=LAYERS + 1, stored=("int8", "float16"))
    assert world.conversions <= 2
    assert f"with all {LAYERS} layers raised" in fit.reason


def test_what_the_backend_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fitted(World(3, unknown="b01"), monkeypatch, estimate=3)
    assert "b01" not in fit.raised["encoder"]
    assert fit.last.report.status is Status.PASSED


def test_the_cheaper_way_to_raise_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fitted(World(2), monkeypatch, estimate=2, stored=("int8", "float16"))
    assert fit.stored == "int8"
    fit = fitted(World(LAYERS + 1), monkeypatch, estimate=99, stored=("int8", "float16"))
    assert fit.stored == "float16"


@pytest.mark.parametrize(("target_name", "name"), COMPRESSED)
def test_the_toml_of_a_fit_is_the_fitted_recipe(target_name: str, name: str) -> None:
    target = load_target(target_name)
    stored = get_backend(target.backend).raised_types(target.recipes[name])[-1]
    recipe = raised(target.recipes[name], {"encoder": ["stage3.blocks.0.fc2"]}, stored)
    tolerance = replace(recipe.tolerance, mean_mask_iou=0.99)
    text = fitted_toml(target, name, replace(recipe, tolerance=tolerance), "ab" * 32)
    again = parse_target(target_name, text)
    expected = replace(recipe, tolerance=tolerance, fitted_to="ab" * 32)
    assert again.recipe(None) == (name, expected)
    assert (again.graph, again.convert) == (target.graph, target.convert)


@pytest.mark.parametrize("value", ["0", "1.5", "-1", "nan"])
def test_a_mask_iou_that_cannot_be_is_refused(value: str, tmp_path: Path) -> None:
    done = warm(tmp_path, ["onnx", "-c", WEIGHTS, "--min-iou", value])
    assert done.code == USAGE
    assert "expected a number over 0 up to 1" in done.stderr


def test_a_mask_iou_needs_files_that_are_run(tmp_path: Path) -> None:
    done = warm(tmp_path, ["onnx", "-c", WEIGHTS, "--min-iou", "0.9", "--no-verify"])
    assert done.code == USAGE
    assert "leave --no-verify out" in done.stderr


def test_no_fit_writes_nothing(onnx_bundle: Path, tmp_path: Path) -> None:
    text = (ROOT / "targets" / "onnx.toml").read_text()
    text = text.replace("embedding_psnr_db = 55 #", "embedding_psnr_db = 1000 #")
    (tmp_path / "mine.toml").write_text(text)
    options = ("-r", "w8", "-c", WEIGHTS, "--image-size", "256", "--no-fit", "-o", "out")
    arguments = ["run", "mine.toml", *options]
    done = warm(tmp_path, arguments, before=[partial(reuse_files, onnx_bundle)])
    assert done.code == FAILED
    assert "nothing written" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_fit_that_cannot_succeed_says_why(onnx_bundle: Path, tmp_path: Path) -> None:
    text = (ROOT / "targets" / "onnx.toml").read_text()
    text = text.replace("embedding_psnr_db = 55 #", "embedding_psnr_db = 1000 #")
    (tmp_path / "mine.toml").write_text(text)
    options = ("-r", "w8", "-c", WEIGHTS, "--image-size", "256", "-o", "out")
    done = warm(
        tmp_path, ["run", "mine.toml", *options], before=[partial(reuse_files, onnx_bundle)]
    )
    assert done.code == FAILED
    assert "cannot be fitted to these weights: float32 misses it as well" in done.stdout
    assert not (tmp_path / "out").exists()


def test_files_that_fail_are_kept_if_asked_for(onnx_bundle: Path, tmp_path: Path) -> None:
    text = (ROOT / "targets" / "onnx.toml").read_text()
    text = text.replace("embedding_psnr_db = 55 #", "embedding_psnr_db = 1000 #")
    (tmp_path / "mine.toml").write_text(text)
    options = ("-r", "w8", "-c", WEIGHTS, "--image-size", "256", "--no-fit", "-o", "out")
    arguments = ["run", "mine.toml", *options, "--keep-failed"]
    done = warm(tmp_path, arguments, before=[partial(reuse_files, onnx_bundle)])
    assert done.code == FAILED
    assert done.stdout.startswith("out\n")
    assert open_bundle(tmp_path / "out").status is Status.FAILED
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "**Failed** with ONNX Runtime" in readme
    assert "expected >= 1000" in " ".join(readme.split())


def test_a_recipe_fitted_to_other_weights_says_so(onnx_bundle: Path, tmp_path: Path) -> None:
    text = (ROOT / "targets" / "onnx.toml").read_text()
    text = text.replace('weights = "float32"\n', f'weights = "float32"\nfitted_to = "{64 * "a"}"\n')
    (tmp_path / "mine.toml").write_text(text)
    arguments = ["run", "mine.toml", "-c", WEIGHTS, "--image-size", "256"]
    done = warm(tmp_path, arguments, before=[partial(reuse_files, onnx_bundle)])
    assert done.code == 0, done.stderr
    assert "note: this recipe was fitted to other weights" in done.stderr


def test_an_export_fits_and_its_toml_gives_the_same_bytes(
    shared: Path, export: Callable[..., Path], tmp_path: Path
) -> None:
    """One block in int8 is asked for more than int8 gives it."""
    text = (ROOT / "targets" / "onnx.toml").read_text()
    layers = 'integer.encoder = ["stage[234]", "down[23].expand", "down[23].project", "neck.[02]"]'
    text = text.replace(layers, 'integer.encoder = ["stage4.blocks.0"]')
    text = text.replace("embedding_psnr_db = 45 # 52.0", "embedding_psnr_db = 62 #")
    (shared / "mine.toml").write_text(text)
    rest = ("-r", "w8-dynamic", "-c", WEIGHTS, "--image-size", "256")
    folder = export("run", str(shared / "mine.toml"), *rest)
    said = folder.with_suffix(".stderr").read_text()
    assert "Trying the recipe with" in said
    again = warm(tmp_path, ["run", folder / "mine.toml", *rest, "--no-verify", "-o", "again"])
    assert again.code == 0, again.stderr
    for name in ("encoder.onnx", "decoder.onnx"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
