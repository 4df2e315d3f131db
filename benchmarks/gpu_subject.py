"""One subject of `benchmarks.gpu`, in a process of its own: made ready, then timed under a lock.

`python -m benchmarks.gpu_subject LOCK NAME BUNDLE...` prints rows as JSON in its last line.
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.random_teacher import VIT_H, random_encoder, save_teacher
from mobilesam_export.benchmark.measure import Options, Subject, bundle_subjects, measure
from mobilesam_export.benchmark.pytorch import captured
from mobilesam_export.benchmark.pytorch_subjects import parse_modes, pytorch_subjects
from mobilesam_export.benchmark.statistics import summarize
from mobilesam_export.benchmark.subject import GRAPHS, graph_inputs
from mobilesam_export.benchmark.timing import Schedule, time_call
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.checkpoint.load import load_matching_model
from mobilesam_export.distillation.options import DistillOptions
from mobilesam_export.distillation.run import run as distill
from mobilesam_export.model import Sam

TIMING_LOCK = "timing.lock"
SCHEDULE = Schedule(warmup=20, rounds=300, max_seconds=3)
COMPONENTS = ("encoder", "decoder", "click_to_mask", "image_to_mask")
BATCHES = (1, 8, 32)
TRAINING_BATCH = 8
TRAINING_STEPS = (6, 26)  # the difference is timed, without what the first steps cost
Figures = dict[str, Any]
Lock = Callable[[], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Work:
    """A kind of subject and its argument, "kind argument" as text.

    Attributes:
        kind, argument: of it.
        alone: whether it also needs the processor for itself, and so begins after the others.
    """

    kind: str
    argument: str = ""
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.argument}".strip()


WORK = (
    Work("pytorch", "eager:float32"),
    Work("pytorch", "eager:bfloat16"),
    Work("pytorch", "compiled:float16"),
    Work("pytorch", "cuda-graph:float32"),
    Work("pytorch", "cuda-graph:float16"),
    Work("pytorch", "cuda-graph:bfloat16"),
    Work("onnxruntime", "cuda"),
    Work("onnxruntime", "tensorrt"),
    Work("throughput", "bfloat16"),
    Work("sam-vit-h", "bfloat16"),
    Work("distill", "sam-vit-h", alone=True),
)


def timed_subjects(
    subjects: Sequence[Subject], lock: Lock, schedule: Schedule = SCHEDULE
) -> list[Figures]:
    """Open and run each once, then time them.

    Raises:
        SystemExit: with the reason, if none can run here.
    """
    if all(subject.reason for subject in subjects):
        raise SystemExit(subjects[0].reason)
    subjects = [dataclasses.replace(s, open=functools.cache(s.open)) for s in subjects]
    for subject in subjects:
        for graph in GRAPHS:
            subject.open(graph).run(graph_inputs(subject.case, subject.contract, graph))
    with lock():
        rows, _ = measure(subjects, Options(COMPONENTS, schedule, loads=1))
    return [
        {
            "subject": row.subject,
            "device": row.device,
            "runtime": row.runtime,
            "component": row.component,
            "median_ms": row.latency.median_ms,
            "p90_ms": row.latency.p90_ms,
            "runs": len(row.times_ms),
            "answers": row.answers,
            "wrong": row.wrong,
        }
        for row in rows
        if row.latency
    ]


def timed_encoder(name: str, encoder: nn.Module, image: Tensor, lock: Lock) -> Figures:
    """An encoder without answers to check: compiled, captured and timed.

    Args:
        name: for the row.
        encoder: (B, 3, S, S) normalised -> embeddings, on the GPU.
        image: of its device and type.
        lock: of the GPU.
    """
    compiled = torch.compile(encoder, dynamic=False)
    with torch.no_grad():
        compiled(image)
        with lock():
            replay, _ = captured(lambda: compiled(image))

            def run() -> None:
                replay()
                torch.cuda.synchronize()

            for _ in range(3):
                run()
            median_ms = summarize([time_call(run)[0] for _ in range(20)]).median_ms
    batch = len(image)
    return {
        "subject": name,
        "component": f"encoder, batch {batch}",
        "median_ms": median_ms,
        "images_per_s": batch / median_ms * 1e3,
        "wrong": False,
    }


def throughput(sam: Sam, dtype: torch.dtype, lock: Lock) -> list[Figures]:
    """Images per second of the plain encoder by batch."""
    encoder = sam.image_encoder.eval().to("cuda", dtype)
    name, side = f"pytorch throughput:{str(dtype).removeprefix('torch.')}", sam.image_size
    return [
        timed_encoder(name, encoder, torch.randn(b, 3, side, side).to("cuda", dtype), lock)
        for b in BATCHES
    ]


def vit_h(dtype: torch.dtype, side: int, lock: Lock) -> list[Figures]:
    """SAM's ViT-H on the same GPU."""
    encoder = random_encoder(VIT_H, "cuda").to(dtype)
    image = torch.randn(1, 3, side, side).to("cuda", dtype)
    name = f"SAM ViT-H:{str(dtype).removeprefix('torch.')}"
    return [timed_encoder(name, encoder, image, lock)]


def training(bundle: Bundle, lock: Lock) -> list[Figures]:
    """Images per second of `distill` with a ViT-H as teacher, nothing cached."""
    with tempfile.TemporaryDirectory() as folder:
        teacher = Path(folder) / "teacher.safetensors"
        save_teacher(random_encoder(VIT_H, "cuda"), teacher)
        seconds = []
        with lock():
            for steps in TRAINING_STEPS:
                options = DistillOptions(
                    images=f"scenes:{TRAINING_BATCH * TRAINING_STEPS[-1]}",
                    out=Path(folder) / f"student-{steps}.safetensors",
                    teacher=str(teacher),
                    image_size=bundle.contract.image_size,
                    steps=steps,
                    batch=TRAINING_BATCH,
                    views=0,
                    held_out=1,
                    device="cuda",
                )
                seconds.append(distill(options).log.seconds)
    steps = TRAINING_STEPS[1] - TRAINING_STEPS[0]
    step_ms = (seconds[1] - seconds[0]) / steps * 1e3
    return [
        {
            "subject": "distill, teacher SAM ViT-H, student mobilesam",
            "component": f"training step, batch {TRAINING_BATCH}",
            "median_ms": step_ms,
            "images_per_s": TRAINING_BATCH / step_ms * 1e3,
            "wrong": False,
        }
    ]


def rows_of(work: Work, bundles: Sequence[Bundle], lock: Lock) -> list[Figures]:
    """Everything that one process measures."""
    first = bundles[0]
    side = first.contract.image_size
    match work.kind:
        case "pytorch":
            modes = parse_modes([work.argument], "cuda")
            threads = torch.get_num_threads()
            return timed_subjects(pytorch_subjects(first, None, modes, threads), lock)
        case "onnxruntime":
            each = [bundle_subjects(bundle, work.argument, 0) for bundle in bundles]
            return timed_subjects([subject for part in each for subject in part], lock)
        case "throughput":
            sam = load_matching_model(first.provenance, None, side)
            return throughput(sam, getattr(torch, work.argument), lock)
        case "sam-vit-h":
            return vit_h(getattr(torch, work.argument), side, lock)
        case "distill":
            return training(first, lock)
    raise SystemExit(f"no such subject: {work}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """The GPU, for this process alone."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(0.2)  # the one before may still be freeing its memory
        yield


def main(arguments: Sequence[str]) -> None:
    """Measure one subject."""
    lock, name, *bundles = arguments
    kind, _, argument = name.partition(" ")
    opened = [open_bundle(Path(bundle)) for bundle in bundles]
    rows = rows_of(Work(kind, argument), opened, lambda: locked(Path(lock)))
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
