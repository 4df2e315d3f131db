"""How backends are found, what is wrong with those that are not, and that nobody asks for names."""

import ast
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from mobilesam_export.backends import MEMBERS, Backend, backend_names, get_backend
from mobilesam_export.errors import BackendError, TargetError
from tests.cli_runner import ERROR, Result, assert_refused, environment
from tests.conftest import WEIGHTS

ROOT = Path(__file__).parents[1]
OURS = ("coreai", "coreml", "executorch", "onnx", "tflite")
# Writes what PyTorch needs to compute the graph again, and runs it: the least that is a backend.
TOY = """
from pathlib import Path

import numpy as np

from mobilesam_export.backends import Backend, Settings
from mobilesam_export.errors import TargetError
from mobilesam_export.inspection.graph import Dialect, GraphDescription
from mobilesam_export.session import Session

GRAPHS = {}


class ToyBackend(Backend):
    suffix = ".toy"

    def parse_recipe(self, recipe, form, convert):
        if convert:
            raise TargetError(f"[convert] of a toy target takes no keys, found {dict(convert)}")
        return Settings()

    def convert(self, graph, conversion, path):
        GRAPHS[path.name] = graph
        path.write_text(f"{graph.spec.name} {conversion.recipe.weights}")

    def load(self, path, spec, device="", threads=0):
        import torch

        module = GRAPHS[path.name].module

        def run(inputs):
            values = [torch.from_numpy(np.asarray(inputs[item.name])) for item in spec.inputs]
            with torch.inference_mode():
                outputs = module(*values)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            names = [item.name for item in spec.outputs]
            return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}

        return Session(run, "toy runtime", note="toys are for tests")

    def describe(self, path):
        return GraphDescription(Path(path), "toy", Dialect(frozenset(), {}), (), (), (), ())

    def runner(self):
        return "toy runtime"

    def versions(self):
        return {"toy": "1"}


backend = ToyBackend()
"""
TARGET = """
description = "A toy"
backend = "toy"
default_recipe = "float32"

[graph]
layout = "channel-last"
image_input = "uint8"
prompt = "slots"

[recipe.float32]
weights = "float32"
activations = "float32"

[recipe.float32.tolerance]
embedding_psnr_db = 100
logits_error = 5e-5
iou_max_abs_error = 1e-3
mask_iou = 0.999
"""


def install(site: Path, code: str, value: str = "toy:backend") -> None:
    """A package `toy` as pip leaves one: the module, and metadata with an entry point."""
    package, metadata = site / "toy", site / "toy-1.0.dist-info"
    (package / "templates").mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    (package / "templates" / "slots.md").write_text("Run $target at $side.")
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[mobilesam_export.backends]\ntoy = {value}\n")


def run(folder: Path, *arguments: str) -> Result:
    """The program in a process that finds `site` beside all that is installed."""
    (folder / "toy.toml").write_text(TARGET)
    done = subprocess.run(
        [sys.executable, "-m", "mobilesam_export", *arguments],
        cwd=folder,
        env=environment(folder, {"PYTHONPATH": str(folder / "site")}),
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_a_backend_of_anyone_s_exports_and_is_verified(tmp_path: Path) -> None:
    install(tmp_path / "site", TOY)
    done = run(tmp_path, "run", "toy.toml", "-c", WEIGHTS, "--image-size", "256", "-o", "out")
    assert done.code == 0, done.stderr
    assert "verified (toy runtime)" in done.stdout
    assert "note: toys are for tests" in done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["backend"] == "toy"
    assert manifest["versions"]["toy"] == "1"
    assert (tmp_path / "out" / "encoder.toy").read_text() == "encoder float32"
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "Run toy at 256." in readme
    assert "Toys are for tests." in readme


def test_what_a_backend_refuses_is_said_before_the_checkpoint_is_looked_for(tmp_path: Path) -> None:
    install(tmp_path / "site", TOY)
    (tmp_path / "mine.toml").write_text(TARGET + "\n[convert]\nsharp = true\n")
    done = run(tmp_path, "run", "mine.toml", "-c", "missing.pt", "-o", "out")
    phrases = ["mine.toml, line 11: recipe float32: ", "takes no keys, found {'sharp': True}"]
    assert_refused(done, ERROR, phrases)


def test_a_backend_without_a_text_for_the_readme_is_refused_before_any_work(tmp_path: Path) -> None:
    install(tmp_path / "site", TOY)
    (tmp_path / "site" / "toy" / "templates" / "slots.md").unlink()
    done = run(tmp_path, "run", "toy.toml", "-c", "missing.pt", "-o", "out")
    assert_refused(done, ERROR, ["README", "expected slots-channel-last.md or slots.md in"])


BROKEN = {
    "no such module": (TOY, "gone:backend", "cannot be imported: ModuleNotFoundError: No module"),
    "no such name": (TOY, "toy:front", "cannot be imported: AttributeError: module 'toy'"),
    "raises": ("1 / 0", "toy:backend", "cannot be imported: ZeroDivisionError: division by zero"),
    "abstract": (
        TOY.replace("def convert(self, graph", "def konvert(self, graph"),
        "toy:backend",
        "abstract method '?convert'?",
    ),
    "no member": (
        "class Toy: suffix = '.toy'\nbackend = Toy()",
        "toy:backend",
        "lacks has_arm_build, optional, parse_recip",
    ),
    "a class": (TOY, "toy:ToyBackend", "is a class"),
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path, from which nothing stays imported."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("toy", None)
    get_backend.cache_clear()


@pytest.mark.parametrize("name", BROKEN)
def test_a_backend_with_a_mistake_is_named_in_one_line(name: str, site: Path) -> None:
    code, value, message = BROKEN[name]
    install(site, code, value)
    with pytest.raises(BackendError, match=message) as caught:
        get_backend("toy")
    assert str(caught.value).startswith(f"backend 'toy' ({value}) ")
    assert "\n" not in str(caught.value)


def test_a_member_that_is_missing_is_named(site: Path) -> None:
    members = "\n".join(f"    {name} = None" for name in MEMBERS if name != "describe")
    install(site, f"class Toy:\n{members}\nbackend = Toy()")
    with pytest.raises(BackendError, match=r"lacks describe; derive it from .*\.Backend"):
        get_backend("toy")


def test_two_packages_with_one_backend_are_refused(site: Path) -> None:
    install(site, TOY)
    other = site / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[mobilesam_export.backends]\ntoy = toy:backend\n")
    with pytest.raises(TargetError, match=r"comes from several packages: (toy, other|other, toy)"):
        get_backend("toy")


@pytest.mark.parametrize("name", ["nope", "os", "a.b", "", "reference"])
def test_an_unknown_backend_names_those_that_are_known(name: str) -> None:
    known = "coreai, coreml, executorch, onnx, tflite"
    with pytest.raises(TargetError, match=f"no backend {name!r}; known: {known}"):
        get_backend(name)


def test_ours_come_in_by_the_same_door() -> None:
    assert backend_names() == list(OURS)
    assert all(Backend in type(get_backend(name)).__mro__ for name in OURS)


def test_every_member_of_the_contract_is_documented() -> None:
    for name in MEMBERS:
        member = getattr(Backend, name, None)
        assert member.__doc__ if member else name in str(Backend.__doc__), name


def test_only_backends_know_their_own_names() -> None:
    """A new backend needs no edit anywhere else: nothing may ask which one it has."""
    package = Path(str(resources.files("mobilesam_export")))
    own = {"backends", "samples"}  # a sample is an app for one of them
    files = [p for p in package.rglob("*.py") if not own & {*p.relative_to(package).parts}]
    assert len(files) > 50
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.value if isinstance(node, ast.Constant) else None
            assert name not in OURS, f"{path}:{getattr(node, 'lineno', 0)} says {name!r}"


def test_a_lookup_imports_no_converter_and_no_runtime() -> None:
    code = """
        import sys
        from mobilesam_export.backends import backend_names, get_backend
        for name in backend_names():
            get_backend(name).why_unavailable()
            get_backend(name).why_cannot_convert()
        heavy = {"torch", "onnx", "onnxruntime", "coremltools", "ai_edge_litert", "litert_torch"}
        heavy |= {"coreai", "coreai_torch", "executorch"}
        print(sorted(heavy & set(sys.modules)))
    """
    found = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True)
    assert found.strip() == "[]"
