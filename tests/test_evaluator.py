"""The evaluator: precision modes, pictures, checks, and one clear line for all that it cannot run.

`save` and `run` at the top are what the other test_evaluator_* modules use too.
"""

import gc
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mobilesam_export.errors import BackendError, BundleError
from mobilesam_export.evaluator import Evaluator, load_program, read_program
from mobilesam_export.quiet import quiet

with quiet():
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.proto import Model_pb2

# ct.convert collects garbage, which takes 0.2 s where torch is loaded, unless that is set aside.
gc.freeze()

Array = NDArray[Any]
Var = Any  # what coremltools and protobuf hand over is untyped
Build = Callable[..., Var]
TYPES = {"float32": ct.converters.mil.mil.types.fp32, "int32": ct.converters.mil.mil.types.int32}
TYPES |= {"float16": ct.converters.mil.mil.types.fp16, "bool": ct.converters.mil.mil.types.bool}


def save(path: Path, build: Build, inputs: dict[str, Array], target: str = "iOS17") -> Path:
    """Write a package of what `build` makes of its inputs with coremltools' builder, unoptimised.

    The parameters of `build` have the names of the inputs.
    """
    system = getattr(ct.target, target)
    with quiet():
        specs = [mb.TensorSpec(x.shape, dtype=TYPES[str(x.dtype)]) for x in inputs.values()]
        program = mb.program(input_specs=specs, opset_version=system)(build)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=system,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        model.save(str(path))
    return path


def run(
    build: Build, inputs: dict[str, Array], target: str = "iOS17", mode: str = "float32"
) -> list[Array]:
    """Save, read back, run: the outputs in order."""
    with tempfile.TemporaryDirectory() as folder:
        evaluator = load_program(save(Path(folder) / "m.mlpackage", build, inputs, target), mode)
        outputs = evaluator.run(inputs)
        return [outputs[name] for name in evaluator.program.outputs]


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convert(path: Path, module: torch.nn.Module, *examples: Array, **options: Var) -> Path:
    """Write the package that coremltools makes of a torch module, with all its optimisations."""
    settings = {
        "minimum_deployment_target": ct.target.iOS17,
        "compute_precision": ct.precision.FLOAT32,
        "inputs": [ct.TensorType(name=f"x{i}", shape=x.shape) for i, x in enumerate(examples)],
        **options,
    }
    with quiet(), torch.no_grad():
        tensors = tuple(torch.from_numpy(x) for x in examples)
        traced = torch.jit.trace(module.eval(), tensors)
        model = ct.convert(traced, convert_to="mlprogram", skip_model_load=True, **settings)
        model.save(str(path))
    return path


class Scaled(torch.nn.Module):
    """Something to save: weights large enough for the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return convert(tmp_path_factory.mktemp("package") / "m.mlpackage", Scaled(), random(2, 32))


@pytest.fixture
def package(original: Path, tmp_path: Path) -> Path:
    """A copy of a small package that a test may damage."""
    shutil.copytree(original, tmp_path / "m.mlpackage")
    return tmp_path / "m.mlpackage"


def specification(package: Path) -> Path:
    return package / "Data" / "com.apple.CoreML" / "model.mlmodel"


def weight_file(package: Path) -> Path:
    return package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def edit(package: Path, change: Callable[[Any], None]) -> None:
    """Change a package's specification."""
    spec = Model_pb2.Model.FromString(specification(package).read_bytes())
    change(spec)
    specification(package).write_bytes(spec.SerializeToString())


def block(spec: Var) -> Var:
    main = spec.mlProgram.functions["main"]
    return main.block_specializations[main.opset]


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- modes


def square(x: Var) -> Var:
    return mb.mul(x=x, y=x)


def test_float16_overflow_is_infinite_in_float16_mode_only() -> None:
    x = np.array([200.0, 300.0], np.float16)  # 300 * 300 > 65504
    assert run(square, {"x": x}, mode="float16")[0].tolist() == [40000.0, np.inf]
    assert run(square, {"x": x}, mode="float32")[0].tolist() == [40000.0, 90000.0]


def test_float16_mode_rounds_after_every_operation_and_sums_in_float32() -> None:
    x = np.array([[2048.0, 1.0, 1.0]], np.float16)

    def build(x: Var) -> Var:  # 2048 + 1 is 2048 in float16, but 2050 is a float16
        one_step = mb.reduce_sum(x=x, axes=[1])
        first = mb.slice_by_index(x=x, begin=[0, 0], end=[1, 1], squeeze_mask=[False, True])
        second = mb.slice_by_index(x=x, begin=[0, 1], end=[1, 2], squeeze_mask=[False, True])
        return one_step, mb.add(x=mb.add(x=first, y=second), y=second)

    one_step, two_steps = run(build, {"x": x}, mode="float16")
    assert (one_step.item(), two_steps.item()) == (2050.0, 2048.0)
    assert one_step.dtype == np.float16


def test_float16_mode_leaves_float32_islands_alone() -> None:
    x = np.array([300.0], np.float16)

    def build(x: Var) -> Var:
        wide = mb.cast(x=x, dtype="fp32")
        return mb.sqrt(x=mb.mul(x=wide, y=wide))

    assert run(build, {"x": x}, mode="float16")[0].tolist() == [300.0]


def test_an_observer_sees_numbers_before_they_overflow(tmp_path: Path) -> None:
    x = np.array([300.0], np.float16)
    evaluator = load_program(save(tmp_path / "m.mlpackage", square, {"x": x}), "float16")
    seen = {}
    evaluator.run({"x": x}, lambda op, value, tensor: seen.update({op.kind: tensor.item()}))
    assert seen["mul"] == 90000.0


def test_no_such_mode(package: Path) -> None:
    with pytest.raises(BackendError, match="float64"):
        load_program(package, "float64")


def test_tensors_are_freed_after_their_last_use(tmp_path: Path) -> None:
    def build(x: Var) -> Var:
        for _ in range(3):
            x = mb.relu(x=x)
        return x

    program = read_program(save(tmp_path / "m.mlpackage", build, {"x": random(2)}))
    freed = [step.last_uses for step in Evaluator(program)._steps]
    names = [op.outputs[0].name for op in program.operations]
    assert freed == [("x",), (names[0],), (names[1],)]


def test_outputs_are_the_callers_own(tmp_path: Path) -> None:
    x = random(4)
    evaluator = load_program(save(tmp_path / "m.mlpackage", lambda x: mb.identity(x=x), {"x": x}))
    (name,) = evaluator.program.outputs
    evaluator.run({"x": x})[name][:] = 0
    assert np.array_equal(evaluator.run({"x": x})[name], x)
    assert x.any()


# --- pictures


@pytest.mark.parametrize(("layout", "order"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_image_input_gets_its_bias_and_scale_and_order(
    layout: str, order: list[int], tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
    bias = np.array([-1.0, 2.0, -3.0])
    kind = ct.ImageType(
        name="image",
        shape=(1, 3, 4, 5),
        scale=0.5,
        bias=bias.tolist(),
        color_layout=getattr(ct.colorlayout, layout),
    )
    path = convert(
        tmp_path / "m.mlpackage", torch.nn.Hardtanh(-9e9, 9e9), random(1, 3, 4, 5), inputs=[kind]
    )
    (found,) = load_program(path).run({"image": image}).values()
    expected = image[..., order].transpose(0, 3, 1, 2) * 0.5 + bias[:, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def grey_package(path: Path) -> Path:
    kind = ct.ImageType(name="image", shape=(1, 1, 4, 5), color_layout=ct.colorlayout.GRAYSCALE)
    return convert(path, torch.nn.Hardtanh(-9e9, 9e9), random(1, 1, 4, 5), inputs=[kind])


def test_grey_image_input(tmp_path: Path) -> None:
    image = np.arange(20, dtype=np.uint8).reshape(1, 4, 5, 1)
    (found,) = load_program(grey_package(tmp_path / "m.mlpackage")).run({"image": image}).values()
    assert np.array_equal(found, image.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 4, 5, 3), np.uint8),
        np.zeros((1, 4, 5, 1), np.float32),
        np.zeros((4, 5, 1), np.uint8),
        np.zeros((1, 5, 4, 1), np.uint8),
    ],
)
def test_other_pictures_are_refused(image: Array, tmp_path: Path) -> None:
    evaluator = load_program(grey_package(tmp_path / "m.mlpackage"))
    with pytest.raises(BackendError, match="input image"):
        evaluator.run({"image": image})


# --- inputs


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({}, "takes the inputs x0; found none"),
        ({"x0": random(2, 32), "y": random(1)}, "found x0, y"),
        ({"x0": random(3, 32)}, r"shape \(3, 32\), but the program declares \(2, 32\)"),
        ({"x0": np.zeros((2, 32), np.int32)}, "is float32, found int32"),
    ],
)
def test_wrong_inputs(inputs: dict[str, Array], match: str, package: Path) -> None:
    evaluator = load_program(package)
    with pytest.raises(BackendError, match=match) as error:
        evaluator.run(inputs)
    one_line(error)


# --- damaged and foreign packages


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected an .mlpackage") as error:
        load_program(tmp_path / "none.mlpackage")
    one_line(error)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"itemInfoEntries": {}}', "\xff"])
def test_damaged_manifest(text: str, package: Path) -> None:
    (package / "Manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match="damaged") as error:
        load_program(package)
    one_line(error)


def test_manifest_that_leads_outside(package: Path) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    for entry in manifest["itemInfoEntries"].values():
        entry["path"] = "../../elsewhere"
    (package / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="outside"):
        load_program(package)


def test_specification_missing(package: Path) -> None:
    specification(package).unlink()
    with pytest.raises(BundleError, match="cannot be read") as error:
        load_program(package)
    one_line(error)


def test_specification_cut_short(package: Path) -> None:
    data = specification(package).read_bytes()
    specification(package).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match="damaged") as error:
        load_program(package)
    one_line(error)


def test_weight_file_missing(package: Path) -> None:
    weight_file(package).unlink()
    with pytest.raises(BundleError, match=r"weight.bin cannot be read") as error:
        load_program(package)
    one_line(error)


@pytest.mark.parametrize("size", [0, 63, 100, 500, -1])
def test_weight_file_short(size: int, package: Path) -> None:
    data = weight_file(package).read_bytes()
    weight_file(package).write_bytes(data[:size])
    with pytest.raises(BundleError, match=r"weight.bin") as error:
        load_program(package)
    one_line(error)


def test_weight_file_of_another_format(package: Path) -> None:
    data = bytearray(weight_file(package).read_bytes())
    data[4] = 3
    weight_file(package).write_bytes(data)
    with pytest.raises(BundleError, match="format version 3, expected 2"):
        load_program(package)


def test_weight_of_another_type(package: Path) -> None:
    data = bytearray(weight_file(package).read_bytes())
    data[68] = 1  # the first record says float16
    weight_file(package).write_bytes(data)
    with pytest.raises(BundleError, match="no float32 constant"):
        load_program(package)


@given(place=st.integers(0, 2**32), change=st.integers(1, 255))
@settings(max_examples=100, deadline=None, derandomize=True)
@pytest.mark.parametrize("where", [specification, weight_file])
def test_a_flipped_byte_never_escapes(
    where: Callable[[Path], Path], place: int, change: int, original: Path
) -> None:
    """It is reported in one line, or leads to numbers, and never to any other exception."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(shutil.copytree(original, Path(folder) / "m.mlpackage"))
        data = bytearray(where(package).read_bytes())
        data[place % len(data)] ^= change
        where(package).write_bytes(data)
        try:
            load_program(package).run({"x0": random(2, 32)})
        except (BundleError, BackendError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right


def test_older_specification(package: Path) -> None:
    def change(spec: Var) -> None:
        spec.mlProgram.functions["main"].opset = "CoreML5"

    edit(package, change)
    with pytest.raises(BackendError, match="made for 'CoreML5'; expected CoreML6") as error:
        load_program(package)
    one_line(error)


def test_neural_network_is_no_program(package: Path) -> None:
    edit(package, lambda spec: spec.neuralNetwork.SetInParent())
    with pytest.raises(BackendError, match="type neuralNetwork; expected an ML Program") as error:
        load_program(package)
    one_line(error)


def test_unknown_operations_are_named_together(package: Path) -> None:
    def change(spec: Var) -> None:
        block(spec).operations[-1].type = "frobnicate"
        copy = block(spec).operations.add()
        copy.CopyFrom(block(spec).operations[-2])
        copy.type = "defenestrate"
        copy.outputs[0].name = "another"

    edit(package, change)
    with pytest.raises(BackendError, match="does not know: defenestrate, frobnicate") as error:
        load_program(package)
    one_line(error)


def test_unknown_input_of_an_operation(package: Path) -> None:
    def change(spec: Var) -> None:
        linear = block(spec).operations[-1]
        linear.inputs["turbo"].CopyFrom(linear.inputs["x"])

    edit(package, change)
    with pytest.raises(BackendError, match="op linear has inputs unknown here: turbo"):
        load_program(package)


def test_missing_input_of_an_operation(package: Path) -> None:
    edit(package, lambda spec: block(spec).operations[-1].inputs.pop("weight"))
    with pytest.raises(BackendError, match="op linear lacks the inputs weight"):
        load_program(package)


def test_value_that_nothing_makes(package: Path) -> None:
    def change(spec: Var) -> None:
        block(spec).operations[-1].inputs["x"].arguments[0].name = "ghost"

    edit(package, change)
    with pytest.raises(BundleError, match="op linear uses 'ghost', which nothing makes") as error:
        load_program(package)
    one_line(error)


def test_output_that_nothing_makes(package: Path) -> None:
    def change(spec: Var) -> None:
        block(spec).outputs[0] = "ghost"

    edit(package, change)
    with pytest.raises(BundleError, match="nothing makes its output 'ghost'"):
        load_program(package)


def test_value_made_twice(package: Path) -> None:
    def change(spec: Var) -> None:
        block(spec).operations.extend([block(spec).operations[-1]])

    edit(package, change)
    with pytest.raises(BundleError, match="is made twice"):
        load_program(package)


def test_result_of_another_shape_than_declared(package: Path) -> None:
    def change(spec: Var) -> None:
        output = block(spec).operations[-1].outputs[0]
        output.type.tensorType.dimensions[1].constant.size = 17

    edit(package, change)
    with pytest.raises(BackendError, match=r"shape \(2, 16\), but the program declares \(2, 17\)"):
        load_program(package).run({"x0": random(2, 32)})


def test_result_of_another_type_than_declared(package: Path) -> None:
    def change(spec: Var) -> None:
        block(spec).operations[-1].outputs[0].type.tensorType.dataType = 23

    edit(package, change)
    with pytest.raises(BackendError, match="is float32, but the program declares int32"):
        load_program(package).run({"x0": random(2, 32)})


def test_unknown_attribute_value_names_the_operation() -> None:
    x = random(1, 2, 6, 6)

    def build(x: Var) -> Var:
        return mb.resize_nearest_neighbor(x=x, target_size_height=5, target_size_width=6)

    with pytest.raises(BackendError, match=r"op resize_nearest_neighbor .* not defined") as error:
        run(build, {"x": x})
    one_line(error)


def test_control_flow_is_refused(tmp_path: Path) -> None:
    def build(x: Var) -> Var:
        flag = mb.greater(x=mb.reduce_sum(x=x), y=np.float32(0))
        return mb.cond(pred=flag, _true_fn=lambda: mb.relu(x=x), _false_fn=lambda: mb.abs(x=x))

    path = save(tmp_path / "m.mlpackage", build, {"x": random(2)})
    with pytest.raises(BackendError, match=r"op cond .* control flow") as error:
        load_program(path)
    one_line(error)
