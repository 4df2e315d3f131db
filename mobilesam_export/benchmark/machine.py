"""The machine of a measurement, without which its figures mean nothing.

Names of hardware and of versions only: nothing that identifies a person or a network.
"""

import hashlib
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

TOOLS = ("mobilesam-export", "torch", "onnxruntime", "ai-edge-litert", "coremltools", "numpy")
SETTINGS = (
    "OMP_NUM_THREADS",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "KMP_AFFINITY",
    "LD_PRELOAD",
)


@dataclass(frozen=True)
class Machine:
    """Hardware and installed versions of one machine.

    Attributes:
        cpu: model name as the system tells it.
        cores: that this process may use.
        memory_gb: of the whole machine, in units of 1e9 bytes; 0 if the system does not tell.
        gpu: name of the first CUDA GPU, "" if there is none.
        system: operating system, release and architecture.
        python: version.
        versions: of the tools that are installed.
        settings: environment variables that change speed, as far as they are set.
    """

    cpu: str
    cores: int
    memory_gb: float
    gpu: str
    system: str
    python: str
    versions: dict[str, str]
    settings: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """Hash of the hardware; equal on equal hardware whatever the versions."""
        hardware = [self.cpu, self.cores, self.gpu, self.system.split()[-1]]
        return hashlib.sha256(json.dumps(hardware).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "fingerprint": self.fingerprint}


def this_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(
        cpu=_cpu(),
        cores=usable_cores(),
        memory_gb=_memory_gb(),
        gpu=_gpu(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=_versions(),
        # Of a preloaded allocator the name matters, and its folder is nobody's business.
        settings={name: Path(os.environ[name]).name for name in SETTINGS if name in os.environ},
    )


def usable_cores() -> int:
    """Cores that this process may run on, which a container can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gb() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return 0.0


def _gpu() -> str:
    torch = sys.modules.get("torch")  # whoever measures on a GPU has imported it
    if torch is None or not torch.cuda.is_available():
        return ""
    return str(torch.cuda.get_device_name(0))


def _versions() -> dict[str, str]:
    versions = {}
    for name in TOOLS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
