"""The Kotlin sample of a bundle: compiled, and run on the JVM with golden vectors for a network.

`tests/kotlin/stubs` stands in for Android and LiteRT, with the signatures that the sample uses;
`tests/kotlin/Main.kt` has the checks, of which each prints one line.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from tests.conftest import DEFAULT, ROOT
from tests.sample_limits import write_manifest

OWN = ROOT / "tests" / "kotlin"
COMPILER = ROOT / ".kotlin" / "node_modules" / "kotlin-compiler" / "lib"  # `make kotlin-compiler`
# The compiler takes 20 s of processor time like this, and 50 s with the JVM's default settings.
JAVA = ("java", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8"}
# What the stand-in network takes for its file.
ASSETS = {
    "assets": {"encoder": "encoder", "decoder": "decoder"},
    "missing": {"encoder": "encoder"},
    "damaged": {"encoder": "no model", "decoder": "decoder"},
    "swapped": {"encoder": "decoder", "decoder": "encoder"},
}
# The rest of an app around the READMEs' code, as far as a compiler asks for it.
APP = """@file:Suppress("UNUSED_VARIABLE")
package app

import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.InputStream
import mobilesam.*

class Resolver { fun openInputStream(uri: String): InputStream? = uri.byteInputStream() }
class BitmapDrawable(val resources: String, val bitmap: Bitmap)
class ImageView { var foreground: BitmapDrawable? = null }
val Context.contentResolver: Resolver get() = Resolver()
val resources = ""

fun bundle(context: Context, uri: String) {
%s}

fun sample(context: Context, uri: String, imageView: ImageView) {
%s}

fun check(sam: MobileSam, assets: AssetManager) = %s
"""
CHECKS = re.findall(r'^    "(\w+)" to ', (OWN / "Main.kt").read_text(), re.MULTILINE)
STORED = {  # how EXIF's orientation stores an upright image
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="session")
def report(tflite_bundle: Path, shared: Path) -> str:
    """What all checks printed; compiled and run once per session."""
    if not (shutil.which("java") and shutil.which("javac")):
        pytest.skip("no JDK: apt-get install default-jdk-headless")
    if not COMPILER.is_dir():
        pytest.skip("no Kotlin compiler: make kotlin-compiler")
    folder = shared / "kotlin"
    with FileLock(f"{folder}.lock"):
        if not (folder / "report").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _write_inputs(folder, tflite_bundle)
            _write_code_of_readmes(folder, tflite_bundle)
            _compile(tflite_bundle / "sample" / "kotlin" / "mobilesam" / "src", folder)
            classes = f"{folder}/classes:{folder}/stubs:{COMPILER}/kotlin-stdlib.jar"
            printed = _run(*JAVA, "-cp", classes, "mobilesam.MainKt", str(folder))
            (folder / "report").write_text(printed)
    return (folder / "report").read_text()


def _write_inputs(folder: Path, bundle: Path) -> None:
    shutil.copytree(bundle / "golden", folder / "bundle" / "golden")
    write_manifest(folder / "bundle")
    for name, files in ASSETS.items():
        (folder / name).mkdir()
        for graph, text in files.items():
            (folder / name / f"{graph}.tflite").write_text(text)
    (folder / "orientation").mkdir()
    upright = Image.new("RGB", (32, 16), "red")
    upright.paste("blue", (0, 0, 16, 8))
    upright.paste("green", (16, 0, 32, 8))
    for orientation, stored in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = upright if stored is None else upright.transpose(stored)
        path = folder / "orientation" / f"{orientation}.jpg"
        image.save(path, exif=exif, quality=95, subsampling=0)


def _write_code_of_readmes(folder: Path, bundle: Path) -> None:
    """What an app developer copies: it only has to compile."""
    texts = [(bundle / path / "README.md").read_text() for path in ("", "sample/kotlin")]
    first, second = (re.findall(r"```kotlin\n(.*?)```", text, re.DOTALL) for text in texts)
    (call,) = re.findall(r"`(sam\.selfTest .*?)`", texts[1])
    (folder / "Readme.kt").write_text(APP % (*first, *second, call))


def _compile(sample: Path, folder: Path) -> None:
    stubs = [str(path) for path in sorted((OWN / "stubs").rglob("*.java"))]
    _run("javac", "-d", str(folder / "stubs"), *stubs)
    kotlin = [str(sample), str(OWN / "Main.kt"), str(folder / "Readme.kt")]
    kotlin += [str(path) for path in sorted((OWN / "stubs").rglob("*.kt"))]
    path = f"{folder}/stubs:{COMPILER}/kotlin-stdlib.jar"
    options = ["-no-reflect", "-no-stdlib", "-jvm-target", "17", "-Werror", "-cp", path]
    compiler = [*JAVA, "-cp", f"{COMPILER}/*", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    _run(*compiler, *options, "-d", str(folder / "classes"), *kotlin)


def _run(*command: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", CHECKS)
def test_the_sample_passes_each_check(name: str, report: str) -> None:
    (verdict,) = re.findall(rf"^{name} (ok|failed.*)$", report, re.MULTILINE)
    assert verdict == "ok"


def test_every_golden_prompt_was_compared(report: str, tflite_bundle: Path) -> None:
    index = json.loads((tflite_bundle / "golden" / "golden.json").read_text())
    for image in index["images"]:
        for prompt in image["prompts"]:
            line = f"# iou {image['name']} {prompt['name']} "
            assert report.count(line) == 3  # CPU, GPU, fallback to the CPU


@pytest.mark.parametrize(("target", "dtype"), [("tflite", "uint8"), ("tflite-gpu", "float32")])
def test_the_sample_states_the_bundles_contract(
    target: str, dtype: str, export: Callable[..., Path]
) -> None:
    folder = export(target, *DEFAULT) / "sample" / "kotlin"
    texts = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if "{{" in text]
    (contract,) = (text for path, text in texts.items() if path.name == "Contract.kt")
    assert "val width: Int = 256" in contract
    assert "val height: Int = 256" in contract
    assert f'"{dtype}" == "float32"' in contract
