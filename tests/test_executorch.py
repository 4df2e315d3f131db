"""ExecuTorch programs: what is written, run and described, and what is refused."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mobilesam_export.backends.executorch import backend
from mobilesam_export.commands.all import exportable_targets
from mobilesam_export.errors import BackendError, BundleError, MobileSamExportError, TargetError
from mobilesam_export.inspection.macs import count_macs
from mobilesam_export.inspection.memory import find_peak
from mobilesam_export.metrics import psnr_db
from mobilesam_export.target import Target, parse_target
from tests.cli_runner import ERROR, refused
from tests.executorch_files import (
    HEADS,
    METADATA,
    NEEDS_EXECUTORCH,
    TARGET,
    TOKENS,
    WIDTH,
    convert,
    expected,
    inputs,
    small_graph,
)

TEXT = (Path(__file__).parents[1] / "targets" / "executorch.toml").read_text()
# Of each recipe on the small graph, whose weights are noise: least PSNR of the first output.
LEAST_PSNR_DB = {"float32": 110, "w8-dynamic": 40}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The small graph as a program, by the name of a recipe."""
    folder = tmp_path_factory.mktemp("programs")

    def converted(recipe: str) -> Path:
        path = folder / f"{recipe}.pte"
        if not path.exists():
            convert(recipe, path)
        return path

    return converted


@NEEDS_EXECUTORCH
@pytest.mark.parametrize("recipe", LEAST_PSNR_DB)
def test_a_program_computes_what_the_module_does(
    recipe: str, program: Callable[[str], Path]
) -> None:
    session = backend.load(program(recipe), small_graph().spec)
    answers, wanted = session.run(inputs()), expected()
    assert session.runtime.startswith("ExecuTorch 1.5.1, XNNPACK, CPU")
    for name, value in wanted.items():
        assert answers[name].dtype == value.dtype
        assert answers[name].shape == value.shape
    assert psnr_db(answers["zeroth"], wanted["zeroth"]) > LEAST_PSNR_DB[recipe]


@NEEDS_EXECUTORCH
@pytest.mark.parametrize(("recipe", "casts"), [("float32", 1), ("w8-dynamic", 2)])
def test_xnnpack_takes_all_but_conversions(
    recipe: str, casts: int, program: Callable[[str], Path]
) -> None:
    """Of the image, and of the attention's bias where that is stored in float16."""
    found = backend.partitions(program(recipe))
    assert found is not None
    assert (found.delegate, found.count) == ("XNNPACK", 1)
    assert [kind for kind, _ in found.left] == casts * ["_to_dim_order_copy"]


@NEEDS_EXECUTORCH
@pytest.mark.parametrize(
    ("recipe", "delegate", "kind"),
    [("float16-vulkan", "Vulkan", "VulkanBackend"), ("float16-coreml", "Core ML", "CoreMLBackend")],
)
def test_another_delegate_takes_all_but_conversions(
    recipe: str, delegate: str, kind: str, program: Callable[[str], Path]
) -> None:
    found, described = backend.partitions(program(recipe)), backend.describe(program(recipe))
    assert found is not None
    assert (found.delegate, found.count) == (delegate, 1)
    assert {left for left, _ in found.left} == {"_to_dim_order_copy"}
    assert described.form == f"ExecuTorch program (ops of {delegate} as one)"
    (node,) = (node for node in described.nodes if node.kind == kind)
    assert set(node.outputs[:-1]) == set(described.outputs)
    assert find_peak(described).unknown == 1  # what is inside is in no sum
    assert count_macs(described.nodes, described.dialect).uncounted == (node.name,)
    assert program(recipe).stat().st_size < program("float32").stat().st_size * 0.75  # in float16


@NEEDS_EXECUTORCH
@pytest.mark.parametrize(("delegate", "name"), [("vulkan", "Vulkan"), ("coreml", "Core ML")])
def test_what_this_machine_has_no_delegate_for_is_not_run(
    delegate: str, name: str, program: Callable[[str], Path]
) -> None:
    if sys.platform == "darwin":
        pytest.skip("ExecuTorch for macOS has Core ML")
    reason = backend.why_not_run({"delegate": delegate})
    assert reason.startswith(f"the ExecuTorch of this machine has no {name} delegate: run the ")
    assert backend.why_not_run({"delegate": "xnnpack"}) == ""
    with pytest.raises(BackendError, match=r"ExecuTorch cannot load .*float16-"):
        backend.load(program(f"float16-{delegate}"), small_graph().spec)


@NEEDS_EXECUTORCH
def test_maps_keep_their_channels_last(program: Callable[[str], Path]) -> None:
    """Four exchanges of axes for attention, and one for the result; none around convolutions."""
    kinds = Counter(node.kind for node in backend.describe(program("float32")).nodes)
    assert kinds["Transpose"] == 5
    assert kinds["Conv2d"] == 2
    assert kinds["DepthwiseConv2d"] == 1


@NEEDS_EXECUTORCH
def test_the_graph_is_described(program: Callable[[str], Path]) -> None:
    found = backend.describe(program("float32"))
    assert [(t.dtype, t.shape) for t in found.inputs] == [
        ("uint8", (1, 8, 8, 3)),
        ("float32", (1, 1)),
    ]
    assert [t.shape for t in found.outputs] == [(1, WIDTH, 8, 8), (1, TOKENS, 1)]
    macs = count_macs(found.nodes, found.dialect).by_kind
    assert macs["Conv2d"] == TOKENS * WIDTH * (3 + 9 * WIDTH)
    assert macs["DepthwiseConv2d"] == TOKENS * WIDTH * 9
    assert macs["BatchMatrixMultiply"] == 2 * TOKENS * TOKENS * WIDTH
    norms_and_sum = 3 * TOKENS * WIDTH  # a mean, a variance and a sum are products with a row
    assert macs["FullyConnected"] == 3 * TOKENS * WIDTH * WIDTH + norms_and_sum


@NEEDS_EXECUTORCH
def test_weights_are_int8_and_biases_of_attention_float16(program: Callable[[str], Path]) -> None:
    path = program("w8-dynamic")
    stored = Counter({"int8": 0})
    for tensor in backend.describe(path).constants:
        stored[tensor.dtype] += tensor.elements or 0
    assert stored["int8"] == 3 * WIDTH + 3 * WIDTH * WIDTH + 9 * WIDTH * WIDTH
    assert stored["float16"] == HEADS * TOKENS * TOKENS
    assert path.stat().st_size < program("float32").stat().st_size / 2


@NEEDS_EXECUTORCH
@pytest.mark.parametrize("recipe", ["w8-dynamic", "float16-coreml"])
def test_the_same_export_gives_the_same_bytes(
    recipe: str, program: Callable[[str], Path], tmp_path: Path
) -> None:
    convert(recipe, tmp_path / "again.pte")
    content = program(recipe).read_bytes()
    assert (tmp_path / "again.pte").read_bytes() == content
    assert str(Path(__file__).parents[1]).encode() not in content


@NEEDS_EXECUTORCH
def test_a_program_says_what_it_is(program: Callable[[str], Path]) -> None:
    from executorch.runtime import Runtime

    found = Runtime.get().load_program(program("float32"))
    (text,) = found.load_method("metadata").execute([])
    assert json.loads(text) == METADATA


@NEEDS_EXECUTORCH
def test_a_program_of_another_graph_is_refused(program: Callable[[str], Path]) -> None:
    spec = replace(small_graph().spec, name="decoder", inputs=small_graph().spec.inputs[::-1])
    with pytest.raises(BackendError, match="is not the decoder of the manifest: its inputs are"):
        backend.load(program("float32"), spec)


@NEEDS_EXECUTORCH
def test_another_number_of_threads_is_refused_once_the_pool_is_taken(
    program: Callable[[str], Path],
) -> None:
    path, spec = program("float32"), small_graph().spec
    backend.load(path, spec)
    with pytest.raises(BackendError, match="expected 61: its programs share one pool"):
        backend.load(path, spec, threads=61)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], type[MobileSamExportError], str]] = {
    "cut": (lambda b: b[:-1000], BundleError, r"is damaged: it has [\d,]+ bytes of [\d,]+; copy"),
    "cut in its header": (lambda b: b[:20], BundleError, "it ends in its header"),
    "without a header": (lambda b: b[:8] + bytes(4) + b[12:], BundleError, "no extended header"),
    "newer": (lambda b: b[:4] + b"ET13" + b[8:], BackendError, "has version 13 of the format, "),
    "foreign": (lambda b: b"\x89PNG" + bytes(99), BundleError, "is no ExecuTorch program"),
    "empty": (lambda b: b"", BundleError, "is no ExecuTorch program"),
}


@NEEDS_EXECUTORCH
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_line(name: str, program: Callable[[str], Path], tmp_path: Path) -> None:
    damage, kind, phrase = DAMAGES[name]
    path = tmp_path / "x.pte"
    path.write_bytes(damage(program("float32").read_bytes()))
    for use in (lambda: backend.load(path, small_graph().spec), lambda: backend.describe(path)):
        with pytest.raises(kind, match=phrase):
            use()


@NEEDS_EXECUTORCH
def test_inspect_refuses_a_damaged_program(program: Callable[[str], Path], tmp_path: Path) -> None:
    """Its end is there, so that its header is right, and what lies between is not."""
    content = program("float32").read_bytes()
    (tmp_path / "x.pte").write_bytes(content[:64] + bytes(len(content) - 64))
    refused(tmp_path, ["inspect", "x.pte"], ERROR, ["x.pte is damaged"])


REFUSED = {
    "option": ('"xnnpack"', '"xnnpack"\nopset = 20', "has one key, delegate, one of 'xnnpack', "),
    "delegate": ('"xnnpack"', '"npu"', "one of 'xnnpack', 'vulkan', 'coreml'; found .*'npu'"),
    "no delegate": ('delegate = "xnnpack"', "", "has one key, delegate"),
    "int8 for Vulkan": (
        '"xnnpack"',
        '"vulkan"',
        "for the Vulkan delegate are float32 and float32 ",
    ),
    "layout": ('"channel-last"', '"channel-first"', 'has layout = "channel-last"'),
    "image": ('"uint8"', '"float32"', 'image_input = "uint8" and prompt = "slots", found'),
    "float16": (
        '"float32"\nactiv',
        '"float16"\nactiv',
        "XNNPACK delegate are float32 and float32 or int8 ",
    ),
    "int4": ('weights = "int8"', 'weights = "int4"', "found int4 and dynamic-int8"),
    "scales": ('"per_channel"', '"per_tensor"', "recipe are per_channel, found 'per_tensor'"),
    "exception": (
        "[recipe.w8-dynamic.tol",
        '[recipe.w8-dynamic.exceptions.encoder]\nstem = "float16"\n[recipe.w8-dynamic.tol',
        "exceptions of an executorch recipe are float32, found float16",
    ),
    "calibration": ('"per_channel"', '"per_channel"\ncalibrate_weights = true', "no calibrate_we"),
}


def parse_all(target: Target) -> None:
    for recipe in target.recipes.values():
        backend.parse_recipe(recipe, target.graph, {**target.convert, **recipe.convert})


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_target_cannot_say_is_refused(name: str) -> None:
    old, new, phrase = REFUSED[name]
    assert old in TEXT
    with pytest.raises(TargetError, match=phrase):
        parse_all(parse_target("executorch", TEXT.replace(old, new, 1)))


def test_all_leaves_it_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)  # what `find_spec` looks at first
    targets, skipped = exportable_targets()
    assert "executorch is not installed" in skipped["executorch"]
    assert TARGET.name not in [target.name for target in targets]


def test_no_device_but_the_cpu() -> None:
    with pytest.raises(BackendError, match=r"cannot run x.pte on gpu: no such device"):
        backend.load(Path("x.pte"), small_graph().spec, "gpu")
