"""What goes to a device, and what comes back from one; the logs are of the tools' own form."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mobilesam_export.backends.device import fill_template
from mobilesam_export.backends.tflite import android
from mobilesam_export.benchmark.device_results import import_rows
from mobilesam_export.errors import MeasurementError
from tests.cli_runner import ERROR, USAGE, refused, warm

FIRST = "# mobilesam-export device results 1\n"
HEAD = FIRST + "# platform: {}\n# subject: {}\n# device: {}\n"
ENCODER = """INFO: Loaded model /data/local/tmp/encoder.tflite
INFO: Replacing 300 out of 300 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1
INFO: count=5 first=260000 min=250000 max=260000 avg=252000 std=100 p5=1 median=2 p95=3
INFO: count=100 first=249 min=238588 max=252566 avg=1.24e+06 std=2 p5=1 median=239807 p95=9
INFO: Inference timings in us: Init: 5579, First inference: 260000, Inference (avg): 1.2e+06
"""
PIXEL = HEAD.format("android", "tflite-float32", "Google Pixel 8, zuma")
ANDROID = f"""{PIXEL}# section: encoder cpu
{ENCODER}# section: encoder gpu
ERROR: Failed to apply GPU delegate.
# section: decoder cpu
INFO: count=5 curr=40000 p5=1 median=40000 p95=3
INFO: count=100 first=249 min=38588 max=52566 avg=4.1e+04 std=2 p5=1 median=4.05e+04 p95=9
INFO: Inference timings in us: Init: 2000, First inference: 40000, Inference (avg): 1.2e+06
"""
CASE = "Test Case '-[MobileSAMLatencyTests.LatencyTests test_"
MEASURED = (
    "]' measured [Clock Monotonic Time, s] average: 0.012, relative standard deviation: 5.494%"
)
MEMORY = "]' measured [Memory Physical, kB] average: 1.0, relative standard deviation: 1%"
APPLE = f"""{HEAD.format("apple", "coreml-float16", "Apple M3")}Test Suite 'All tests' started.
{CASE}encoder_cpuAndNeuralEngine]' started.
# load: 1.5 cold: 0.125
# answers: right
/L.swift:41: {CASE}encoder_cpuAndNeuralEngine{MEASURED}, values: [0.012000, 0.010, 0.017], more
/L.swift:41: {CASE}encoder_cpuAndNeuralEngine{MEMORY}, values: [1.0, 1.0, 1.0]
{CASE}decoder_all]' started.
# answers: wrong: low_res_masks off by up to 9.5
/L.swift:41: {CASE}decoder_all{MEASURED}, values: [0.003], performanceMetricID:com.apple.dt
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "results.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_benchmark_models_log_is_read(tmp_path: Path) -> None:
    encoder, gpu, decoder = import_rows(written(tmp_path, ANDROID))
    assert (encoder.subject, encoder.device) == ("tflite-float32", "android-cpu")
    assert encoder.machine == "Google Pixel 8, zuma"
    assert encoder.delegate == "300 of 300 ops by TfLiteXNNPackDelegate"
    assert encoder.latency is not None
    assert (encoder.latency.rounds, encoder.latency.median_ms) == (100, 239.807)
    assert (encoder.latency.min_ms, encoder.latency.p90_ms) == (238.588, None)
    assert (encoder.load_ms, encoder.cold_ms) == ((5.579,), (260.0,))
    assert (gpu.device, gpu.latency) == ("android-gpu", None)
    assert gpu.unverified == "ERROR: Failed to apply GPU delegate."
    assert decoder.latency is not None
    assert decoder.latency.median_ms == 40.5


def test_xctests_log_is_read(tmp_path: Path) -> None:
    encoder, decoder = import_rows(written(tmp_path, APPLE))
    assert (encoder.component, encoder.device) == ("encoder", "apple-cpu+ne")
    assert encoder.times_ms == (12.0, 10.0, 17.0)
    assert encoder.latency is not None
    assert encoder.latency.median_ms == 12.0
    assert (encoder.load_ms, encoder.cold_ms) == ((1500.0,), (125.0,))
    assert encoder.answers == "right"
    assert decoder.device == "apple-all"
    assert decoder.wrong
    assert decoder.answers == "low_res_masks off by up to 9.5"


def test_an_old_benchmark_model_without_a_median_is_unverified(tmp_path: Path) -> None:
    old = ANDROID.replace(" median=239807", "").replace(" median=2 ", " ")
    encoder = import_rows(written(tmp_path, old))[0]
    assert encoder.latency is None
    assert "no median; use a newer one" in encoder.unverified


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line is not"),
        ("count=5 median=3\n", "first line is not"),
        ("# mobilesam-export device results 1\n", "names no platform"),
        ("# mobilesam-export device results 1\n# platform: mars\n# subject: x\n", "no platform"),
        (
            "# mobilesam-export device results 1\n# platform: apple\n# subject: x\n",
            "no measurement",
        ),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(MeasurementError, match=said):
        import_rows(written(tmp_path, text))


def test_results_of_devices_share_one_table_and_a_budget(tmp_path: Path) -> None:
    written(tmp_path, ANDROID).rename(tmp_path / "android.txt")
    written(tmp_path, APPLE.replace("wrong: low_res_masks off by up to 9.5", "right"))
    text = 'device = "android-cpu"\ndevice_name = "*Pixel*"\n[median_ms]\nencoder = 240\n'
    (tmp_path / "pixel.toml").write_text(text)
    arguments = ["benchmark", "--import", "android.txt", "--import", "results.txt"]
    result = warm(tmp_path, [*arguments, "--budget", "pixel.toml"])
    assert result.code == 0, result.stderr
    assert "android-cpu, 300 of 300 ops by TfLiteXNNPackDelegate, Google Pixel 8" in result.stdout
    assert "apple-cpu+ne, Apple M3" in result.stdout
    assert "pass" in result.stdout
    found = json.loads(warm(tmp_path, [*arguments, "--json"]).stdout)
    assert len(found["rows"]) == 5


def test_an_apple_package_is_whole(coreml_bundle: Path, tmp_path: Path) -> None:
    result = warm(tmp_path, ["device-script", coreml_bundle, "-o", "package"])
    assert result.code == 0, result.stderr
    package = tmp_path / "package"
    swift = (package / "Tests" / "LatencyTests.swift").read_text()
    for path in (package / "Package.swift", package / "run.sh", package / "README.md"):
        assert "@" not in path.read_text().replace("@$", "").replace('"$@"', ""), path
    assert "static let width = 256" in swift
    assert "[1, 6, 2]" in swift
    for name in ("image.uint8", "image_embeddings.float32", "click/low_res_masks.float32"):
        assert (package / "Tests" / "Golden" / name).stat().st_size
    original = coreml_bundle / "encoder.mlpackage" / "Manifest.json"
    copied = package / "Tests" / "Models" / "encoder.mlpackage" / "Manifest.json"
    assert copied.read_bytes() == original.read_bytes()
    subprocess.run(["sh", "-n", str(package / "run.sh")], check=True)


def test_the_android_script_runs_against_a_made_up_adb(onnx_bundle: Path, tmp_path: Path) -> None:
    """With an adb that prints what benchmark_model prints; no phone is needed for the script."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (tmp_path / "log.txt").write_text(ENCODER)
    (bin_folder / "adb").write_text(
        f'#!/bin/sh\ncase "$*" in *getprop*) echo Pixel;; *graph=*) cat {tmp_path / "log.txt"};; '
        "*) :;; esac\n"
    )
    (bin_folder / "adb").chmod(0o755)
    subject = {"QUOTED_SUBJECT": "tflite-float32"}
    fill_template(android.TEMPLATES / "run.sh", subject, tmp_path / "run.sh")
    for name in ("encoder.tflite", "decoder.tflite", "benchmark_model"):
        (tmp_path / name).write_bytes(b"")
    subprocess.run(
        [str(tmp_path / "run.sh"), "benchmark_model", "out.txt"],
        cwd=tmp_path,
        env={"PATH": f"{bin_folder}:/usr/bin:/bin", "COOL_DOWN_S": "0"},
        check=True,
        capture_output=True,
    )
    rows = import_rows(tmp_path / "out.txt")
    assert [(r.component, r.device) for r in rows] == [
        ("encoder", "android-cpu"),
        ("encoder", "android-gpu"),
        ("decoder", "android-cpu"),
        ("decoder", "android-gpu"),
    ]
    assert [r.latency and r.latency.median_ms for r in rows] == [239.807, None, 239.807, None]
    assert {(r.machine, r.threads) for r in rows} == {("Pixel Pixel, Pixel", 4)}


def test_a_bundle_that_no_device_times_this_way_is_refused(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    phrases = ["is an onnx bundle", "for bundles of coreml, executorch, tflite"]
    refused(tmp_path, ["device-script", onnx_bundle, "-o", "x"], USAGE, phrases)


def test_a_folder_with_something_in_it_is_left_alone(coreml_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    refused(tmp_path, ["device-script", coreml_bundle, "-o", "mine"], USAGE, ["is there already"])


def test_a_damaged_bundle_is_refused(coreml_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(coreml_bundle, tmp_path / "bundle"))
    (bundle / "encoder.mlpackage" / "Manifest.json").write_bytes(b"{}")
    refused(tmp_path, ["device-script", bundle], ERROR, ["is damaged"])
