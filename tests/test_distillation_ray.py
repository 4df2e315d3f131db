"""`distill --ray`: in Ray's workers the losses are those of one process."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from mobilesam_export.cluster import LOCAL, absolute
from mobilesam_export.distillation import run
from mobilesam_export.distillation.cluster import run_on_ray
from mobilesam_export.distillation.options import DistillOptions
from mobilesam_export.errors import UsageError
from tests.cli_runner import ERROR, refused

RAY = find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not RAY, reason="the extra [ray] is 600 MB and not installed")


def options(out: Path, batch: int = 2) -> DistillOptions:
    return DistillOptions(
        images="scenes:8",
        out=out,
        teacher="seeded:tiny",
        student="tiny",
        init="seeded:1",
        image_size=256,
        steps=4,
        batch=batch,
        held_out=1,
    )


@pytest.mark.skipif(RAY, reason="it is installed")
def test_without_ray_what_to_type_is_said(tmp_path: Path) -> None:
    arguments = ["distill", "scenes:8", "--ray", "local", "-o", "s.safetensors"]
    refused(
        tmp_path, arguments, ERROR, ["ray is not installed", 'pip install "mobilesam-export[ray]"']
    )


def test_a_worker_s_paths_are_those_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    given = DistillOptions("photos", Path("s.safetensors"), teacher="demo", cache=Path("c"))
    found = absolute(given)
    assert found.images == str(tmp_path / "photos")
    assert (found.out, found.cache) == (tmp_path / "s.safetensors", tmp_path / "c")
    assert (found.teacher, found.plot) == ("demo", None)


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's, of its own options
def test_two_workers_have_the_losses_of_one_process(tmp_path: Path) -> None:
    one = run.run(options(tmp_path / "one.safetensors"))
    two = run_on_ray(options(tmp_path / "two.safetensors"), LOCAL, 2)
    assert two.log.losses == pytest.approx(one.log.losses, rel=1e-5)
    assert two.log.epochs[-1]["step"] == 4


@needs_ray
def test_a_batch_must_divide_over_the_workers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--batch 3 cannot be divided over 2 workers"):
        run_on_ray(options(tmp_path / "s.safetensors", batch=3), LOCAL, 2)
