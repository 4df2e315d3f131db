"""Where the packages of Core AI can be installed at all: PyPI has wheels and no source."""

import platform
import sys

# Of coreai-core 1.0.0b3: manylinux_2_34_x86_64 and macOS; Requires-Python in its metadata.
GLIBC = (2, 34)
PYTHONS = ((3, 11), (3, 14))


def explained(missing: str) -> str:
    """What to say where the packages are missing.

    Args:
        missing: which, and what to type; "" if all are there.

    Returns:
        The same, or why pip would find no wheel for this machine.
    """
    return missing and (why_no_wheel() or missing)


def why_no_wheel() -> str:
    """Why there is no wheel of coreai-core for this machine, with what to do; "" if there is."""
    oldest, newest = PYTHONS
    if not oldest <= sys.version_info[:2] <= newest:
        found = platform.python_version()
        return f"Core AI has packages for Python 3.{oldest[1]} to 3.{newest[1]}, found {found}"
    if platform.system() == "Darwin":
        return ""
    needed = f"Linux on x86_64 with glibc {GLIBC[0]}.{GLIBC[1]} or newer, or macOS"
    machine = f"{platform.system()} on {platform.machine()}"
    if machine != "Linux on x86_64":
        return f"Core AI has packages for {needed}, found {machine}"
    library, release = platform.libc_ver()
    if library != "glibc" or tuple(map(int, release.split(".")[:2])) < GLIBC:
        found = f"{library or 'another C library'} {release}".strip()
        return f"Core AI has packages for {needed}, found {found}; use a newer system or container"
    return ""
