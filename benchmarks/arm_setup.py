"""Sets up `.arm/`: an emulator, and the ARM builds of Python, ONNX Runtime and LiteRT.

    python -m benchmarks.arm_setup          (or `make arm`)

Everything comes from the package registries that this machine is set up for, Debian's by `apt-get`
and Python's by `pip`; nothing is installed outside the folder, and root is not needed. Debian's
packages are bookworm's, which has Python 3.11; the emulator is trixie's: QEMU 7.2 of bookworm
computes int8 matrix instructions wrongly.
"""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from mobilesam_export.proof import arm

PYTHON_RELEASE, EMULATOR_RELEASE = "bookworm", "trixie"
EMULATOR_PACKAGE = "qemu-user"  # statically linked
DEBIAN_PACKAGES = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1",
    "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5",
    "libuuid1", "libcrypt1", "libgomp1",
)  # fmt: skip
# What wheels of the runtimes are tagged with; pip takes the newest that fits.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
RUNTIMES = ("onnxruntime", "ai-edge-litert", "numpy")
# What the program itself imports to open a bundle; all of it runs on any processor.
PURE = ("click", "rich", "pillow", "onnx")


def main() -> int:
    """Make the folder anew, whole or not at all."""
    part = arm.FOLDER.with_name(f"{arm.FOLDER.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    host = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    print(f"{EMULATOR_PACKAGE} of Debian {EMULATOR_RELEASE}", flush=True)
    unpack(part, EMULATOR_RELEASE, host, (EMULATOR_PACKAGE,), part / "emulator")
    print(f"Python 3.11 of Debian {PYTHON_RELEASE} for ARM", flush=True)
    unpack(part, PYTHON_RELEASE, "arm64", DEBIAN_PACKAGES, part / "root")
    print(f"{', '.join(RUNTIMES)} for ARM", flush=True)
    unzip_wheels(part)
    shutil.rmtree(part / "apt", ignore_errors=True)
    shutil.rmtree(arm.FOLDER, ignore_errors=True)
    part.rename(arm.FOLDER)
    print(f"ready: mobilesam-export verify BUNDLE --arm ({arm.FOLDER})")
    return 0


def unpack(
    part: Path, release: str, architecture: str, names: Sequence[str], destination: Path
) -> None:
    """Download Debian packages of a release and unpack them, without installing them."""
    folder = (part / "apt" / f"{release}-{architecture}").absolute()
    for name in ("lists/partial", "cache/archives/partial", "packages"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb {debian_site()} {release} main\n")
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": folder,
        "Dir::State::Lists": folder / "lists",
        "Dir::State::Status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *names], check=True, cwd=folder / "packages")
    for package in sorted((folder / "packages").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, destination], check=True)


def debian_site() -> str:
    """Where this machine's own apt gets Debian from."""
    lines = subprocess.check_output(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"], text=True
    ).split("\n")
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    for line in lines:
        site, _, name = line.partition(" ")
        if name == release and "debian" in site:
            return site
    sys.exit("arm_setup needs a Debian whose apt-get is set up; run `apt-get update` first")


def unzip_wheels(part: Path) -> None:
    """The runtimes' ARM builds in the versions that are installed here."""
    wheels, site = part / "apt" / "wheels", part / "site"
    names = [f"{name}=={version(name)}" for name in (*RUNTIMES, *PURE)]
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)]
    options = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *platforms]
    subprocess.run(
        [*command, *options, *names],
        check=True,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


if __name__ == "__main__":
    sys.exit(main())
