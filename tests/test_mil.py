"""The evaluator as it is called: precision modes, images, inputs, and what it cannot run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mobilesam_export.errors import BackendError
from mobilesam_export.mil import Interpreter, load_program, read_program
from tests.mil_programs import Array, Var, convert, ct, mb, one_line, random, run, save

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


def test_no_such_mode(tmp_path: Path) -> None:
    package = save(tmp_path / "m.mlpackage", square, {"x": random(2)})
    with pytest.raises(BackendError, match="float64"):
        load_program(package, "float64")


def test_tensors_are_freed_after_their_last_use(tmp_path: Path) -> None:
    def build(x: Var) -> Var:
        for _ in range(3):
            x = mb.relu(x=x)
        return x

    program = read_program(save(tmp_path / "m.mlpackage", build, {"x": random(2)}))
    freed = [step.last_uses for step in Interpreter(program)._steps]
    names = [op.outputs[0].name for op in program.operations]
    assert freed == [("x",), (names[0],), (names[1],)]


def test_outputs_are_the_callers_own(tmp_path: Path) -> None:
    x = random(4)
    evaluator = load_program(save(tmp_path / "m.mlpackage", lambda x: mb.identity(x=x), {"x": x}))
    (name,) = evaluator.program.outputs
    evaluator.run({"x": x})[name][:] = 0
    assert np.array_equal(evaluator.run({"x": x})[name], x)
    assert x.any()


# --- images


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
def test_other_images_are_refused(image: Array, tmp_path: Path) -> None:
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
def test_wrong_inputs(inputs: dict[str, Array], match: str, tmp_path: Path) -> None:
    package = save(tmp_path / "m.mlpackage", lambda x0: mb.relu(x=x0), {"x0": random(2, 32)})
    evaluator = load_program(package)
    with pytest.raises(BackendError, match=match) as error:
        evaluator.run(inputs)
    one_line(error)


# --- what it cannot run


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
