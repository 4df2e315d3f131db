"""Logs of phones and Macs as they really are: fallbacks, kills, commas, two devices in one file."""

import os
import subprocess
from pathlib import Path

import pytest

from mobilesam_export.backends.coreml import apple
from mobilesam_export.backends.device import DeviceSubject, fill_template, subject_values
from mobilesam_export.backends.tflite import android
from mobilesam_export.benchmark.device_results import FIRST_LINE, import_rows
from mobilesam_export.benchmark.row import Row
from mobilesam_export.contract import Contract
from mobilesam_export.target import Tolerance, load_target
from tests.cli_runner import ERROR, refused, warm

HEAD = FIRST_LINE + "\n# platform: {}\n# subject: mine\n# device: {}\n"
COUNTS = (
    "INFO: count=5 first=90000 curr=50000 min=50000 max=90000 avg=60000 std=1 median=52000\n"
    "INFO: count=100 first=52000 curr=50000 min=49000 max=68000 avg=53000 std=1 median=51900\n"
)
TFLITE_END = (
    "INFO: Inference timings in us: Init: 119000, First inference: 90000, Warmup (avg): 1\n"
)
XNNPACK = "VERBOSE: Replacing {} out of {} node(s) with delegate (TfLiteXNNPackDelegate) node, so\n"
GPU = "VERBOSE: Replacing {} out of {} node(s) with delegate ({}) node, yielding 1 partitions\n"
LITERT_2 = """INFO: [benchmark_litert_model.h:94] Model initialization: 744.73 ms
INFO: [benchmark_litert_model.h:96] Warmup (first):       41.04 ms
INFO: [benchmark_litert_model.h:100] Inference (avg):      30.20 ms (100 runs)
"""
FALLEN_BACK = {
    "nothing on the GPU": (
        "INFO: Created 0 GPU delegate kernels.\n" + XNNPACK.format(900, 910),
        "0 GPU delegate kernels",
    ),
    "applied, not executed": (
        "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by "
        "the delegate.\n" + XNNPACK.format(910, 910),
        "will not be executed by the delegate",
    ),
    "a part": (GPU.format(12, 864, "TfLiteGpuDelegateV2"), "12 of 864 ops by TfLiteGpuDelegateV2"),
    "a part, then the CPU": (
        GPU.format(864, 864, "LITERT_CL") + XNNPACK.format(10, 10),
        "864 of 864 ops by LITERT_CL, 10 of 10 ops by TfLiteXNNPackDelegate",
    ),
    "two graphs, one on the GPU": (
        GPU.format(12, 12, "LITERT_CL") + GPU.format(3, 40, "LITERT_CL"),
        "3 of 40 ops by LITERT_CL",
    ),
    "no accelerator": (
        "WARNING: Failed to load GPU accelerator(libLiteRtOpenClAccelerator.so)\n",
        "Failed to load GPU accelerator",
    ),
    "only the CPU": (XNNPACK.format(910, 910), "does not say that the GPU ran anything"),
}


def rows(folder: Path, text: str) -> list[Row]:
    (folder / "results.txt").write_text(text, encoding="utf-8")
    return import_rows(folder / "results.txt")


def section(log: str, place: str = "gpu") -> str:
    return HEAD.format("android", "Pixel 8") + f"# section: encoder {place}\n{log}"


@pytest.mark.parametrize("name", FALLEN_BACK)
def test_a_time_of_the_cpu_is_no_figure_of_the_gpu(name: str, tmp_path: Path) -> None:
    log, said = FALLEN_BACK[name]
    (row,) = rows(tmp_path, section(log + COUNTS + TFLITE_END))
    assert row.latency is None
    assert said in row.unverified


def test_its_budget_is_unverified(tmp_path: Path) -> None:
    log, said = FALLEN_BACK["a part"]
    rows(tmp_path, section(log + COUNTS + TFLITE_END))
    (tmp_path / "b.toml").write_text('device = "android-gpu"\n[median_ms]\nencoder = 60\n')
    result = warm(tmp_path, ["benchmark", "--import", "results.txt", "--budget", "b.toml"])
    assert "unverified" in result.stdout
    assert said in result.stdout
    assert "pass" not in result.stdout


@pytest.mark.parametrize(
    "said",
    [
        GPU.format(864, 864, "TfLiteGpuDelegateV2"),
        "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed "
        "by the delegate.\n",
    ],
)
def test_a_graph_that_ran_on_the_gpu_has_its_time(said: str, tmp_path: Path) -> None:
    (row,) = rows(tmp_path, section(said + COUNTS + TFLITE_END))
    assert row.latency is not None
    assert row.latency.median_ms == 51.9


def test_the_summary_of_litert_2_is_read(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, section(GPU.format(864, 864, "LITERT_CL") + COUNTS + LITERT_2))
    assert row.latency is not None
    assert (row.latency.rounds, row.latency.median_ms, row.latency.min_ms) == (100, 51.9, 49.0)
    assert (row.load_ms, row.cold_ms) == ((744.73,), (41.04,))
    assert row.delegate == "864 of 864 ops by LITERT_CL"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("INFO: STARTING!\nKilled\n", "Killed"),
        (
            'CANNOT LINK EXECUTABLE "benchmark_model": library "libc++_shared.so" not found\n',
            'CANNOT LINK EXECUTABLE "benchmark_model": library "libc++_shared.so" not found',
        ),
        ("ERROR: out of memory\nAborted\n", "ERROR: out of memory; the log ends with: Aborted"),
        ("ERROR: out of memory\n=====\n", "ERROR: out of memory"),
        (COUNTS.replace("51900", "nan"), "benchmark_model printed no median; use a newer one"),
        ("", "benchmark_model printed nothing"),
    ],
)
def test_a_section_without_a_number_says_how_its_log_ends(
    log: str, said: str, tmp_path: Path
) -> None:
    (row,) = rows(tmp_path, section(log, "cpu"))
    assert (row.latency, row.unverified) == (None, said)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_windows_wrote_is_read(encoding: str, tmp_path: Path) -> None:
    """PowerShell's redirection and Notepad put a byte order mark before the first line."""
    log = section(COUNTS + TFLITE_END, "cpu").replace("\n", "\r\n")
    (tmp_path / "results.txt").write_bytes(log.encode(encoding))
    (row,) = import_rows(tmp_path / "results.txt")
    assert row.latency is not None
    assert row.latency.median_ms == 51.9


def test_a_log_without_a_section_has_no_measurement(tmp_path: Path) -> None:
    (tmp_path / "results.txt").write_text(HEAD.format("android", "Pixel 8") + COUNTS)
    phrases = ["results.txt has no measurement in it; run the device script again"]
    refused(tmp_path, ["benchmark", "--import", "results.txt"], ERROR, phrases)


def test_two_devices_in_one_file_are_two_devices(tmp_path: Path) -> None:
    one = section(COUNTS + TFLITE_END, "cpu")
    both = rows(tmp_path, one + one.replace("Pixel 8", "Pixel 9\n# threads: 2"))
    assert [(row.machine, row.threads) for row in both] == [("Pixel 8", 0), ("Pixel 9", 2)]
    result = warm(tmp_path, ["benchmark", "--import", "results.txt"])
    headline = result.stdout.splitlines()[:2]
    assert headline == ["imported: Pixel 8", "imported: Pixel 9; 2 threads for each run"]


def test_two_devices_in_one_run_are_refused(tmp_path: Path) -> None:
    log = section(COUNTS + TFLITE_END, "cpu") + "# device: Pixel 9\n"
    (tmp_path / "results.txt").write_text(log)
    phrases = ["results.txt", "two devices in one run", FIRST_LINE]
    refused(tmp_path, ["benchmark", "--import", "results.txt"], ERROR, phrases)


XCTEST = (
    HEAD.format("apple", "Apple M2")
    + """Test Case '-[T.LatencyTests test_encoder_all]' started.
/L.swift:4: Test Case '-[T.LatencyTests test_encoder_all]' measured [Clock Monotonic Time, s] \
average: 0,018, relative standard deviation: 5.1%, values: [{}], performanceMetricID:x
"""
)


def test_decimal_commas_of_a_mac_are_read(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, XCTEST.format("0,019000, 0,018000, 0,017000"))
    assert row.times_ms == (19.0, 18.0, 17.0)


def test_what_is_no_number_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.txt").write_text(XCTEST.format("0,01,9, a lot"))
    phrases = ["results.txt is damaged", "'0,01,9'", "is no number"]
    refused(tmp_path, ["benchmark", "--import", "results.txt"], ERROR, phrases)


def subject(name: str, folder: Path) -> DeviceSubject:
    contract = Contract(256, 6, load_target("tflite").graph)
    return DeviceSubject(name, folder, contract, Tolerance(1, 1, 1, 1), 1.0, {})


@pytest.mark.parametrize("name", ["a`touch pwned`", "$(touch pwned)", "it's", 'a"b\ntouch pwned\n'])
def test_the_shell_runs_nothing_of_a_folders_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("adb", "sysctl"):
        (folder / tool).write_text("#!/bin/sh\nexit 0\n")
    (folder / "xcodebuild").write_text("#!/bin/sh\necho a test failed\nexit 65\n")
    for path in folder.iterdir():
        path.chmod(0o755)
    values = subject_values(subject(name, tmp_path))
    env = {"PATH": f"{folder}{os.pathsep}/usr/bin:/bin", "COOL_DOWN_S": "0"}
    for graph in ("encoder", "decoder"):
        (tmp_path / f"{graph}.tflite").touch()
    for templates, code in ((android.TEMPLATES, 0), (apple.TEMPLATES, 65)):
        fill_template(templates / "run.sh", values, tmp_path / "run.sh")
        results = tmp_path / f"{code}.txt"
        arguments = [str(results)] if code else ["run.sh", str(results)]  # a file to push
        command = ["sh", str(tmp_path / "run.sh"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        assert f"# subject: {values['SUBJECT']}" in results.read_text().splitlines()
    assert not (tmp_path / "pwned").exists()


def test_the_apple_script_tests_on_a_phone_inside_an_app_only(tmp_path: Path) -> None:
    """iOS refuses tests without an app as their host."""
    for tool, text in (("sysctl", "exit 0"), ("xcodebuild", 'printf "[%s]" "$@"')):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / tool).chmod(0o755)
    values = subject_values(subject("x", tmp_path))
    fill_template(apple.TEMPLATES / "run.sh", values, tmp_path / "run.sh")

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            ["sh", "run.sh", "out.txt", *arguments],
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    phone = "platform=iOS,name=My iPhone"
    code, said = run(phone)
    assert code == 2
    assert "add the app's .xcodeproj and its scheme" in said
    assert not (tmp_path / "out.txt").exists()
    assert run(phone, "My App.xcodeproj", "My App") == (0, "")
    log = (tmp_path / "out.txt").read_text()
    assert f"[-scheme][My App][-destination][{phone}][-project][{tmp_path}/My App.xcodeproj]" in log
    assert "# device: My iPhone\n" in log


def test_the_android_script_returns_a_failure_and_keeps_the_log(tmp_path: Path) -> None:
    adb = tmp_path / "adb"
    adb.write_text('#!/bin/sh\ncase "$*" in *use_gpu=true*) echo "$*"; exit 1;; esac\n')
    adb.chmod(0o755)
    fill_template(
        android.TEMPLATES / "run.sh", subject_values(subject("x", tmp_path)), tmp_path / "run.sh"
    )
    for name in ("encoder.tflite", "decoder.tflite", "tool"):
        (tmp_path / name).touch()
    done = subprocess.run(
        ["sh", "run.sh", "tool", "out.txt"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "COOL_DOWN_S": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "failed at least once" in done.stderr
    log = (tmp_path / "out.txt").read_text()
    assert "--use_cpu=false --require_full_delegation=true" in log
    assert "use_xnnpack" not in log
