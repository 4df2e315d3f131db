"""Core AI assets: what is written, run and described, and what is refused."""

import hashlib
import json
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobilesam_export.backends.coreai import backend, platforms
from mobilesam_export.backends.coreai.neural_engine import place
from mobilesam_export.commands.all import exportable_targets
from mobilesam_export.errors import BackendError, BundleError, MobileSamExportError, TargetError
from mobilesam_export.inspection.graph import Node, Tensor
from mobilesam_export.inspection.macs import count_macs
from mobilesam_export.inspection.placement import Verdict
from mobilesam_export.metrics import psnr_db
from mobilesam_export.target import Target, parse_target
from tests.cli_runner import ERROR, assert_refused, warm
from tests.coreai_files import (
    METADATA,
    NEEDS_COREAI,
    TARGET,
    TOKENS,
    WIDTH,
    convert,
    expected,
    image,
    recipe_of,
    small_graph,
)

TEXT = (Path(__file__).parents[1] / "targets" / "coreai.toml").read_text()
# Of each recipe on the small graph, whose weights are noise: least PSNR of the second output.
LEAST_PSNR_DB = {"float32": 110, "float16": 55, "w8": 40, "w6-palettized": 28, "grouped": 16}


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The small graph as an asset, by the name of a recipe."""
    folder = tmp_path_factory.mktemp("assets")

    def converted(recipe: str) -> Path:
        path = folder / f"{recipe}.aimodel"
        if not path.exists():
            convert(recipe_of(recipe), path)
        return path

    return converted


@NEEDS_COREAI
@pytest.mark.parametrize("recipe", LEAST_PSNR_DB)
def test_an_asset_computes_what_the_module_does(recipe: str, asset: Callable[[str], Path]) -> None:
    session = backend.load(asset(recipe), small_graph().spec)
    answers, wanted = session.run(image()), expected()
    assert session.runtime.startswith("Core AI 1.")
    assert "no Neural Engine" in session.note
    assert set(answers) == set(wanted)
    for name, value in wanted.items():
        assert answers[name].dtype == value.dtype
        assert answers[name].shape == value.shape
    assert psnr_db(answers["first"], wanted["first"]) > LEAST_PSNR_DB[recipe]


@NEEDS_COREAI
def test_fewer_bits_make_a_smaller_file(asset: Callable[[str], Path]) -> None:
    sizes = [(asset(name) / "main.mlirb").stat().st_size for name in LEAST_PSNR_DB]
    assert sizes[0] - sizes[1] > 10_000  # 6,336 weights in two bytes fewer
    assert sizes[1] - sizes[2] > 5_000
    assert sizes[3] - sizes[4] > 1_000


@NEEDS_COREAI
def test_the_same_export_gives_the_same_bytes(asset: Callable[[str], Path], tmp_path: Path) -> None:
    """Nothing in it is named by chance: a hash differs between processes, a suffix between runs."""
    convert(recipe_of("w6-palettized"), tmp_path / "again.aimodel")
    files = {
        path.name: [path.read_bytes(), (tmp_path / "again.aimodel" / path.name).read_bytes()]
        for path in asset("w6-palettized").iterdir()
    }
    assert set(files) == {"main.mlirb", "main.hash", "metadata.json"}
    assert all(first == second for first, second in files.values())
    program = files["main.mlirb"][0]
    assert re.search(rb"tensor\d", program)
    assert b"resource_" not in program


@NEEDS_COREAI
def test_metadata_says_what_the_asset_is_and_nothing_of_this_machine(
    asset: Callable[[str], Path],
) -> None:
    path = asset("float16")
    metadata = json.loads((path / "metadata.json").read_text())
    assert metadata["author"] == METADATA["author"]
    assert metadata["creatorDefinedMetadata"] == {"recipe": "any", "version": "1"}
    assert "creationDate" not in metadata
    assert str(Path(__file__).parent).encode() not in (path / "main.mlirb").read_bytes()


@NEEDS_COREAI
def test_the_graph_is_described(asset: Callable[[str], Path]) -> None:
    found = backend.describe(asset("w8"))
    assert [(t.name, t.dtype, t.shape) for t in found.inputs] == [("image", "uint8", (1, 8, 8, 3))]
    assert [t.name for t in found.outputs] == ["zeroth", "first"]
    kinds = Counter(node.kind for node in found.nodes)
    assert kinds["conv2d"] == kinds["layer_norm"] == 1
    assert "blockwise_shift_scale" not in kinds
    macs = count_macs(found.nodes, found.dialect)
    assert macs.total == 64 * (3 * WIDTH + WIDTH * WIDTH + WIDTH * TOKENS)
    assert not macs.uncounted
    stored = Counter({dtype: 0 for dtype in ("int8", "float16")})
    for tensor in found.constants:
        stored[tensor.dtype] += tensor.elements or 0
    assert stored["int8"] >= WIDTH * WIDTH + TOKENS * WIDTH


@NEEDS_COREAI
def test_an_asset_of_another_graph_is_refused(asset: Callable[[str], Path]) -> None:
    spec = replace(small_graph().spec, name="decoder", inputs=())
    with pytest.raises(BackendError, match="is not the decoder: its tensors are"):
        backend.load(asset("float16"), spec)


def cut(path: Path) -> None:
    program = path / "main.mlirb"
    program.write_bytes(program.read_bytes()[:5000])


def cut_with_its_hash(path: Path) -> None:
    cut(path)
    digest = hashlib.sha256((path / "main.mlirb").read_bytes()).digest()
    (path / "main.hash").write_bytes(digest)


def newer(path: Path) -> None:
    metadata = json.loads((path / "metadata.json").read_text())
    (path / "metadata.json").write_text(json.dumps({**metadata, "assetVersion": "3.0"}))


def become_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("x")


DAMAGES: dict[str, tuple[Callable[[Path], Any], type[MobileSamExportError], str]] = {
    "cut": (cut, BundleError, "main.mlirb does not have the hash in main.hash; copy it again"),
    "unreadable": (cut_with_its_hash, BackendError, "no function 'main' that this coreai-core"),
    "newer": (newer, BackendError, "version 3.0 of the format .*install a newer coreai-core"),
    "no hash": (lambda p: (p / "main.hash").unlink(), BundleError, "main.hash is missing"),
    "no program": (lambda p: (p / "main.mlirb").unlink(), BundleError, "main.mlirb is missing"),
    "metadata": (lambda p: (p / "metadata.json").write_text("{"), BundleError, "is no JSON"),
    "a list": (lambda p: (p / "metadata.json").write_text("[]"), BundleError, "no JSON object"),
    "a file": (become_a_file, BundleError, "is no folder"),
}


@NEEDS_COREAI
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_line(name: str, asset: Callable[[str], Path], tmp_path: Path) -> None:
    damage, kind, phrase = DAMAGES[name]
    path = Path(shutil.copytree(asset("float16"), tmp_path / "x.aimodel"))
    damage(path)
    for use in (lambda: backend.load(path, small_graph().spec), lambda: backend.describe(path)):
        with pytest.raises(kind, match=phrase):
            use()


@NEEDS_COREAI
def test_inspect_refuses_what_would_end_the_process(
    asset: Callable[[str], Path], tmp_path: Path
) -> None:
    """Apple's parser aborts on a program that was cut short."""
    cut_with_its_hash(Path(shutil.copytree(asset("float16"), tmp_path / "x.aimodel")))
    done = warm(tmp_path, ["inspect", "x.aimodel"])
    assert_refused(done, ERROR, ["x.aimodel has no function 'main'", "export again"])


KEPT = 'keep_float32 = ["PointTokens"]'
REFUSED = {
    "system": ('minimum_os = "27"', 'minimum_os = "26"', "minimum_os is '26'; expected one of"),
    "option": ('minimum_os = "27"', "opset = 20", r"\[convert\] of a coreai target takes"),
    "image": ('"uint8"', '"image"', 'image_input = "uint8" or "float32"'),
    "types": ('activations = "float32"', 'activations = "float16"', "found float32 and float16"),
    "int4": ('weights = "int8"', 'weights = "int4"', "found int4 and float16"),
    "groups": ('"per_channel"', '"per_grouped_channel"\ngroup_size = 4', "per_tensor or per_cha"),
    "exception": ('"stem.conv2" = "palette8"', '"stem.conv2" = "int8"', "exceptions of palette6"),
    "calibration": (KEPT, f"{KEPT}\ncalibrate_weights = true", "has no calibrate_weights"),
    "kept": (KEPT, 'keep_float32 = ["Nothing"]', "'Nothing' is no module's class; classes are"),
    "kept twice": ('"float32"\n\n', f'"float32"\n{KEPT}\n\n', "keep_float32 is for float16"),
}


def parse_all(target: Target) -> None:
    for recipe in target.recipes.values():
        backend.parse_recipe(recipe, target.graph, target.convert)


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_target_cannot_say_is_refused(name: str) -> None:
    old, new, phrase = REFUSED[name]
    assert old in TEXT
    target = parse_target("coreai", TEXT.replace(old, new, 1))
    with pytest.raises(TargetError, match=phrase):
        parse_all(target)


@NEEDS_COREAI
def test_a_group_that_does_not_divide_a_weight_is_refused(tmp_path: Path) -> None:
    recipe = replace(recipe_of("grouped"), group_size=7)
    with pytest.raises(TargetError, match="group_size is 7, which does not divide the 64 channels"):
        convert(recipe, tmp_path / "x.aimodel")


@pytest.mark.parametrize(
    ("machine", "libc", "phrase"),
    [
        ("x86_64", ("glibc", "2.31"), "glibc 2.34 or newer, or macOS, found glibc 2.31"),
        ("x86_64", ("", ""), "found another C library"),
        ("aarch64", ("glibc", "2.40"), "found Linux on aarch64"),
    ],
)
def test_a_machine_without_a_wheel_is_told_so(
    machine: str, libc: tuple[str, str], phrase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    assert phrase in platforms.explained("coreai is not installed")
    assert platforms.explained("") == ""


def test_a_python_without_a_wheel_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 15, 0))
    assert "packages for Python 3.11 to 3.14, found" in platforms.explained("missing")


def test_all_leaves_it_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coreai", None)  # what `find_spec` looks at first
    targets, skipped = exportable_targets()
    assert "coreai" in skipped["coreai"]
    assert TARGET.name not in [target.name for target in targets]


@NEEDS_COREAI
def test_all_includes_it_where_it_is_installed() -> None:
    targets, skipped = exportable_targets()
    assert {TARGET.name, "coreai-segmenter"} <= {target.name for target in targets}
    assert TARGET.name not in skipped


def test_no_device_but_the_cpu() -> None:
    with pytest.raises(BackendError, match=r"cannot run x.aimodel on gpu: no such device"):
        backend.load(Path("x.aimodel"), small_graph().spec, "gpu")


def node(kind: str, *shape: int | None, dtype: str = "float16", constant: str = "") -> Node:
    """An op with one operand like its result and, if so, a constant of another type."""
    operand = Tensor("x", dtype, shape)
    inputs = {"0": (operand,)}
    if constant:
        inputs["1"] = (Tensor("c", constant, (), constant=True),)
    return Node(kind, inputs, (Tensor("y", dtype, shape),))


@pytest.mark.parametrize(
    ("op", "verdict", "rule"),
    [
        (node("conv2d", 1, 64, 64, 64), Verdict.RESIDENT, "known kind"),
        (node("conv2d", 9600, 7, 10, 7), Verdict.RESIDENT, "last axis"),
        (node("topk", 1, 64), Verdict.AT_RISK, "unknown kind"),
        (node("reduce_mean", 1, 64), Verdict.AT_RISK, "spelled-out norm"),
        (node("scaled_dot_product_attention", 1, 4, 64, 64), Verdict.AT_RISK, "fused attention"),
        (node("conv2d", 1, 64, 64, 64, dtype="float32"), Verdict.NOT_RESIDENT, "type"),
        (node("exp", 1, 64, constant="float32"), Verdict.NOT_RESIDENT, "float32 constant"),
        (node("reshape", 1, 1, 1, 1, 1, 64), Verdict.NOT_RESIDENT, "rank above 5"),
        (node("reshape", None, 64), Verdict.NOT_RESIDENT, "dynamic shape"),
    ],
)
def test_apple_s_rules_place_an_op(op: Node, verdict: Verdict, rule: str) -> None:
    placement = place(op)
    assert placement.verdict is verdict
    assert rule in [statement.name for statement in placement.statements]


def test_an_aligned_float16_op_breaks_no_rule() -> None:
    (statement,) = place(node("conv2d", 1, 64, 64, 64)).statements
    assert statement.name == "known kind"
    assert "neural_engine_rules.md" in statement.source
