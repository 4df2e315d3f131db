"""`import mobilesam_export`: cheap, its names pinned, its lines in the README true."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mobilesam_export
from mobilesam_export import MobileSamExportError, export, open_bundle, pipeline
from mobilesam_export.errors import TargetError, UsageError, VerificationError
from mobilesam_export.pipeline import Job, Outcome
from mobilesam_export.verification.report import EmbeddingError, PromptError, Report, unverified
from mobilesam_export.verification.status import Status

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_names_are_these() -> None:
    assert mobilesam_export.__all__ == sorted(mobilesam_export.__all__)
    assert set(mobilesam_export.__all__) == {
        "Answer",
        "Bundle",
        "EmbeddedImage",
        "MobileSamExportError",
        "Predictor",
        "Prompt",
        "__version__",
        "export",
        "open_bundle",
    }
    for name in mobilesam_export.__all__:
        assert getattr(mobilesam_export, name) is not None
        assert name in dir(mobilesam_export)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mobilesam_export' has no attribute 'segement'"):
        mobilesam_export.segement  # noqa: B018 the attribute is what is tried


def test_importing_it_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import mobilesam_export; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in done.stdout.split()}
    assert packages - set(sys.stdlib_module_names) == {"mobilesam_export"}
    assert [name for name in done.stdout.split() if name.startswith("mobilesam")] == [
        "mobilesam_export"
    ]


def test_the_lines_in_the_readme_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = re.search(r"\n## Python\n\n```python\n(.*?)```", README, re.DOTALL)
    assert found
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(found.group(1), "README.md", "exec"), names)  # noqa: S102 it is our own text
    answer = names["answer"]
    assert isinstance(answer, mobilesam_export.Answer)
    assert answer.mask.dtype == np.bool_
    assert answer.mask.any()
    assert answer.predicted_iou > 0.5
    assert re.fullmatch(r"[\d.]+% of the image, predicted IoU [\d.]+\n", capsys.readouterr().out)


def finished(folder: Path | None, report: Report, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Exports end like this at once; the jobs that they were given."""
    jobs: list[Job] = []

    def run(job: Job) -> Outcome:
        jobs.append(job)
        return Outcome(folder, {}, report)

    monkeypatch.setattr(pipeline, "export", run)
    return jobs


def test_export_gives_back_the_opened_bundle(
    onnx_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = finished(onnx_bundle, unverified("not asked"), monkeypatch)
    assert export("onnx", checkpoint=Path("a.pt"), out=str(onnx_bundle)) == open_bundle(onnx_bundle)
    assert jobs == [replace(jobs[0], checkpoint="a.pt", out=onnx_bundle, image_size=1024)]


def test_files_that_fail_verification_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(
        Status.FAILED,
        failures=("landscape: embedding PSNR 3.0 dB, expected >= 40",),
        embeddings=(EmbeddingError("landscape", 1.0, 3.0, 0.5),),
        prompts=(PromptError("landscape", "click", 1.0, 1.0, 0.1, 0.5, 0.3, False),),
    )
    finished(None, report, monkeypatch)
    with pytest.raises(VerificationError, match=r"FAILED.*embedding PSNR 3\.0 dB"):
        export("onnx")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TargetError, match="no target 'pytorch'"):
        export("pytorch")
    with pytest.raises(UsageError, match="image size is 100"):
        export("onnx", image_size=100)
    with pytest.raises(MobileSamExportError, match="has no recipe 'w1'"):
        export("onnx", recipe="w1")
