"""`distill` through the real command line: a run, its checkpoint, and what it refuses."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.commands.distill import LOSSES as OFFERED
from mobilesam_export.commands.distill import distill_command
from mobilesam_export.distillation.options import LOSSES, DistillOptions
from mobilesam_export.model.architecture import load_architecture
from tests.cli_runner import ERROR, USAGE, refused, warm
from tests.distillation_parts import write_images
from tests.fault_points import INTERRUPT, at_call

# One narrow block in each stage, so that a step costs little.
SHORT = (
    *("--teacher", "seeded:tiny", "--student", "tiny", "--init", "seeded:1", "--image-size", "256"),
    *("--steps", "2", "--batch", "1", "--held-out", "1", "-o", "s.safetensors"),
)
DEMO = ("--teacher", "demo", "--mask-steps", "1")  # whose masks are not all or nothing
OF_THE_COMMAND = ("as_json", "ray", "workers")  # options that are none of the run's
IN_A_STEP = "mobilesam_export.distillation.trainer:embedding_loss"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a folder of three images."""
    write_images(tmp_path / "photos")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two steps were trained on generated scenes, with a broken file beside."""
    folder = tmp_path_factory.mktemp("trained")
    write_images(folder / "photos")
    (folder / "photos" / "broken.jpg").write_bytes(b"no image")
    outputs = ["--report", "r.html", "--plot", "p.png", "--json"]
    done = warm(folder, ["distill", "photos", *SHORT, *DEMO, *outputs])
    assert done.code == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_the_student_is_a_checkpoint_with_the_teacher_s_decoder(trained: Path) -> None:
    path = trained / "s.safetensors"
    found, teacher = load_file(path), load_checkpoint("demo").state_dict
    decoder = [name for name in teacher if not name.startswith("image_encoder.")]
    assert decoder
    for name in decoder:
        assert found[name].numpy().tobytes() == teacher[name].numpy().tobytes(), name
    start = load_checkpoint("seeded:tiny:1").state_dict
    loaded = load_checkpoint(str(path)).state_dict
    moved = [name for name in loaded if not torch.equal(loaded[name], start[name])]
    assert "image_encoder.neck.0.weight" in moved
    with safe_open(path, "pt") as file:
        assert file.metadata()["distilled_by"] == "mobilesam-export"
    shown = warm(trained, ["checkpoint", "inspect", path]).stdout
    assert "s.safetensors: MobileSAM student, widths 32-64-64-128" in shown
    assert "it can be exported" in shown


def test_figures_log_curves_and_page_tell_of_the_run(trained: Path) -> None:
    result = json.loads((trained / "stdout").read_text())
    assert result["steps"] == 3
    log = json.loads((trained / "s.distill" / "log.json").read_text())
    assert len(log["losses"]) == 3
    assert [row["step"] for row in log["epochs"]] == [0, 2, 3]
    assert result["after"] == log["epochs"][-1]
    assert log["epochs"][0]["embedding_psnr_db"] < log["epochs"][-1]["embedding_psnr_db"]
    assert set(log["epochs"][0]["iou"]) == {"click", "click_best", "clicks", "box"}
    assert len(log["problems"]) == 1
    assert "broken.jpg" in log["problems"][0]
    with Image.open(trained / "p.png") as plot:
        assert plot.width > 800
    page = (trained / "r.html").read_text()
    assert page.count("data:image/jpeg") == 4  # click and box, teacher's and student's
    assert "broken.jpg" in page


def test_what_is_left_out_and_the_size_of_embeddings_are_said_before_training(
    trained: Path,
) -> None:
    lines = (trained / "stderr").read_text()
    assert "note: 1 image is left out" in lines
    assert "broken.jpg is not an image" in lines
    assert "Embeddings: 0.00 GB in s.distill/embeddings, 0 of 2 are there" in lines


def test_called_again_a_finished_run_trains_no_more(trained: Path) -> None:
    done = warm(trained, ["distill", "photos", *SHORT, *DEMO, "--json"])
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((trained / "stdout").read_text())


def test_other_options_are_refused_and_leave_the_run_as_it_was(trained: Path) -> None:
    phrases = ["s.distill is a run with another init", "repeat its options to go on"]
    other = [*DEMO, "--init", "seeded:2"]
    refused(trained, ["distill", "photos", *SHORT, *other], USAGE, phrases)


def test_a_cache_of_another_teacher_is_refused(trained: Path) -> None:
    arguments = ["distill", "photos", *SHORT, "-o", "other.safetensors"]
    cache = ["--cache", trained / "s.distill" / "embeddings"]
    refused(trained, [*arguments, *cache], USAGE, ["embeddings of another teacher"])


@pytest.mark.parametrize(
    ("arguments", "code", "phrases"),
    [
        (["gone"], USAGE, ["gone is not a folder"]),
        (["empty"], USAGE, ["no image under empty"]),
        (["broken"], USAGE, ["0 of 1 images under broken can be used", "a.jpg is not an image"]),
        (["scenes:none"], USAGE, ["expected scenes:COUNT"]),
        (["photos", "--epochs", "1"], USAGE, ["--epochs and --steps contradict each other"]),
        (["photos", "--batch", "0"], USAGE, ["--batch is 0; expected 1 or more"]),
        (["photos", "--image-size", "250"], USAGE, ["a multiple of 64"]),
        (["photos", "--learning-rate", "2"], USAGE, ["--learning-rate is 2; expected 0 to 1"]),
        (["photos", "--cache-gb", "-1"], USAGE, ["--cache-gb is -1; expected 0 or more"]),
        (["photos", "--student", "resnet"], ERROR, ["no student 'resnet'"]),
        (["photos", "--init", "demo"], USAGE, ["--init demo has widths 64-", "tiny has widths 32"]),
        (["photos", "-o", "s.pt"], USAGE, ["s.pt is not a .safetensors file"]),
        (["photos", "--teacher", "gone.pth"], ERROR, ["checkpoint gone.pth does not exist"]),
        (["photos", "--teacher", "yolo.safetensors"], ERROR, ["is not MobileSAM but a YOLO"]),
        (["photos", "--init", "yolo.safetensors"], ERROR, ["is not MobileSAM but a YOLO"]),
        (["photos", "-o", "there.safetensors"], USAGE, ["no run to go on with"]),
        (["photos", "--student", "onnx:w5"], ERROR, ["target onnx has no recipe 'w5'", "w8a8, w4"]),
        (["photos", "--student", "onnx:float32"], USAGE, ["has nothing to recover"]),
        (["photos", "--student", "tflite:w8a8"], USAGE, ["cannot be recovered"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_trained_is_one_line(
    photos: Path, arguments: Sequence[str], code: int, phrases: Sequence[str]
) -> None:
    (photos / "empty").mkdir()
    (photos / "broken").mkdir()
    (photos / "broken" / "a.jpg").write_bytes(b"no image")
    (photos / "there.safetensors").write_bytes(b"of someone")
    save_file({"model.0.conv.weight": torch.zeros(1)}, photos / "yolo.safetensors")
    first, *others = arguments
    refused(photos, ["distill", first, *SHORT, *others], code, phrases)


def test_a_narrower_student_is_fitted_to_a_wider_init_and_goes_on(photos: Path) -> None:
    widths = "widths = [16, 32, 32, 64]\ndepths = [1, 1, 1, 1]\nheads = [0, 1, 1, 2]\n"
    (photos / "narrow.toml").write_text(widths)
    narrow = [*SHORT, "--student", "narrow.toml", "--json"]
    fitted = warm(photos, ["distill", "photos", *narrow, "--init", "seeded:tiny"])
    assert fitted.code == 0, fitted.stderr
    assert "Fitting a narrower encoder" in fitted.stderr
    again = warm(photos, ["distill", "photos", *narrow, "--init", "seeded:tiny"])
    assert json.loads(again.stdout) == json.loads(fitted.stdout)
    assert "Fitting" not in again.stderr
    nothing = warm(
        photos, ["distill", "photos", *narrow, "--init", "seeded:1", "-o", "n.safetensors"]
    )
    before = [json.loads(done.stdout)["before"]["embedding_psnr_db"] for done in (fitted, nothing)]
    assert before[0] > before[1] + 3


def test_a_recovered_student_keeps_the_decoder_and_says_what_it_is_for(photos: Path) -> None:
    recovery = [*SHORT, "--init", "seeded:tiny:1", "--student", "onnx:w4"]
    done = warm(photos, ["distill", "photos", *recovery])
    assert done.code == 0, done.stderr
    assert "next: mobilesam-export onnx -r w4 -c s.safetensors --image-size 256" in done.stdout
    loaded = load_checkpoint(str(photos / "s.safetensors"))
    assert loaded.provenance.recovered_for == "onnx:w4"
    teacher = load_checkpoint("seeded:tiny").state_dict
    for name, value in teacher.items():
        if not name.startswith("image_encoder."):
            assert value.numpy().tobytes() == loaded.state_dict[name].numpy().tobytes(), name
    other = [*recovery, "--student", "onnx:w8"]
    refused(photos, ["distill", "photos", *other], USAGE, ["a run with another recipe"])
    smaller = [*recovery, "--image-size", "320"]
    refused(photos, ["distill", "photos", *smaller], USAGE, ["another image_size"])


def test_after_a_full_disk_no_step_is_repeated(photos: Path) -> None:
    # Between the sizes of the state, 17 MB, and of the checkpoint, which has the decoder.
    full = warm(photos, ["distill", "photos", *SHORT], file_limit=19_000_000)
    assert full.code == ERROR
    assert full.stderr.splitlines()[-1] == "Error: cannot write s.safetensors: File too large"
    assert not (photos / "s.safetensors").exists()
    again = warm(photos, ["distill", "photos", *SHORT])
    assert again.code == 0, again.stderr
    assert "step 2 of 2" in again.stderr
    assert (photos / "s.safetensors").exists()


def test_ctrl_c_ends_with_the_step_and_says_how_to_go_on(photos: Path) -> None:
    interrupt = partial(at_call, IN_A_STEP, INTERRUPT)
    done = warm(photos, ["distill", "photos", *SHORT], before=[interrupt])
    assert done.code == ERROR
    line = "Error: interrupted after step 1 of 2; the same command goes on from there"
    assert done.stderr.splitlines()[-1] == line
    assert (photos / "s.distill" / "state.pt").exists()


def test_nan_is_one_line_and_the_state_is_kept(photos: Path) -> None:
    entries = dict(load_checkpoint("seeded:tiny").state_dict)
    entries["image_encoder.neck.3.bias"] = torch.full((256,), 3e38)  # overflows when squared
    metadata = load_architecture("tiny").metadata()
    save_file(entries, photos / "huge.safetensors", metadata)
    done = warm(photos, ["distill", "photos", *SHORT, "--init", "huge.safetensors"])
    assert done.code == ERROR
    last = done.stderr.splitlines()[-1]
    assert "the loss is" in last
    assert "lower --learning-rate" in last
    assert (photos / "s.distill" / "state.pt").exists()


def test_the_command_offers_what_the_library_takes() -> None:
    assert OFFERED == LOSSES
    arguments = ["scenes:2", "-o", "s.safetensors"]
    with distill_command.make_context("distill", arguments) as context:
        values = {k: v for k, v in context.params.items() if k not in OF_THE_COMMAND}
    assert DistillOptions(**values) == DistillOptions("scenes:2", Path("s.safetensors"))
