"""`evaluate`: mask quality of bundles, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import JSON, OK, print_json, print_notes
from mobilesam_export.errors import MobileSamExportError, UsageError

if TYPE_CHECKING:
    from mobilesam_export.bundle.manifest import Bundle
    from mobilesam_export.evaluation.dataset import Dataset
    from mobilesam_export.evaluation.scores import Candidate, Evaluation

PYTORCH = "PyTorch float32"
NAMED_PROBLEMS = 20
SHOWN = 6  # pictures of the report
SCENES = 20


@click.command("evaluate")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), help="A folder of pictures.")
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="COCO instances for them. [default: PyTorch's own masks stand for them]",
)
@click.option(
    "--scenes", default=SCENES, show_default=True, help="Held-out scenes, if no --images."
)
@click.option("--limit", type=click.IntRange(1), help="Only so many pictures.")
@click.option("-c", "--checkpoint", help="What the bundles were made of. [default: what they name]")
@click.option("--pytorch", is_flag=True, help="Evaluate the float32 PyTorch model beside them.")
@click.option(
    "--save", type=click.Path(path_type=Path), help="Keep figures here; go on if it is there."
)
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML page.")
@JSON
def evaluate_command(bundles: tuple[Path, ...], as_json: bool, **options: Any) -> int:
    """Mean IoU of each BUNDLE's masks by kind of prompt: clicks and boxes.

    Against annotated masks, or on pictures without any against the float32 PyTorch model; without
    pictures, on generated scenes that the demo weights were never trained on.

    \b
    Example:
      mobilesam-export evaluate build/onnx-float32 --scenes 20 --report report.html
      mobilesam-export evaluate build/a build/b --images val2017 --annotations instances.json
    """
    from mobilesam_export.evaluation.report import figures_table
    from mobilesam_export.evaluation.scores import Evaluation, Score

    check_report(options["report"])
    opened, candidates, reference = load_candidates(bundles, options)
    dataset = choose_dataset(options, opened[0])
    evaluation = Evaluation({candidate.name: Score() for candidate in candidates})
    run(evaluation, candidates, reference, dataset, options)
    if not evaluation.pictures or not all(s.objects for s in evaluation.scores.values()):
        named = "; ".join(evaluation.problems[:3])
        raise MobileSamExportError(f"nothing was evaluated: {named or 'there are no objects'}")
    sizes = {candidate.name: candidate.bytes for candidate in candidates}
    if options["report"]:
        write_report(options["report"], evaluation, candidates, dataset)
    if as_json:
        print_json(as_dict(evaluation, sizes, dataset))
    else:
        print_table(dataset, evaluation, figures_table(evaluation, sizes))
        print_notes(*(candidate.sessions[0].note for candidate in candidates))
    return OK


def check_report(path: Path | None) -> None:
    """Refuse a place where no report can be written, before the work."""
    if path is not None and (path.suffix != ".html" or not path.absolute().parent.is_dir()):
        raise UsageError(f"{path} is to be an .html file in a folder that is there")


def load_candidates(
    bundles: Sequence[Path], options: dict[str, Any]
) -> tuple[list["Bundle"], list["Candidate"], "Candidate | None"]:
    """Bundles opened and ready to run, and the float32 model where it is needed."""
    from mobilesam_export.backends import get_backend
    from mobilesam_export.bundle.manifest import open_bundle
    from mobilesam_export.bundle.sessions import load_files
    from mobilesam_export.errors import BackendError
    from mobilesam_export.evaluation.scores import Candidate
    from mobilesam_export.progress import step

    names = [str(path) for path in bundles]
    if len(set(names)) < len(names):
        raise UsageError("the same bundle is given twice; name each once")
    opened = [open_bundle(path) for path in bundles]
    if len({item.contract.image_size for item in opened}) > 1:
        raise UsageError("bundles of different image sizes; evaluate them one by one")
    candidates = []
    for path, item in zip(bundles, opened, strict=True):
        backend = get_backend(item.backend)
        if reason := backend.why_unavailable():
            raise BackendError(f"cannot run {path}: {reason}")
        with step("Loading the bundle"):
            sessions = load_files(path, backend, item.contract)
        files = {n: f for n, f in item.manifest["files"].items() if n.startswith(("enc", "dec"))}
        identity = "".join(sorted(str(f["sha256"]) for f in files.values()))
        size = sum(int(f["bytes"]) for f in files.values())
        candidates.append(Candidate(str(path), identity, item.contract, sessions, size))
    reference = None
    if options["pytorch"] or (options["images"] and not options["annotations"]):
        reference = pytorch_candidate(opened, options["checkpoint"])
    if options["pytorch"] and reference is not None:
        candidates.insert(0, reference)
    return opened, candidates, reference


def pytorch_candidate(opened: Sequence["Bundle"], checkpoint: str | None) -> "Candidate":
    """The float32 model that the bundles were made of."""
    from mobilesam_export.backends import reference
    from mobilesam_export.contract import plain_contract
    from mobilesam_export.evaluation.scores import Candidate
    from mobilesam_export.model import build_sam
    from mobilesam_export.pipeline import reference_checkpoint

    if len({item.provenance.weights_sha256 for item in opened}) > 1:
        raise UsageError("bundles of different weights have no PyTorch model in common")
    weights = reference_checkpoint(opened[0], checkpoint)
    side = opened[0].contract.image_size
    contract = plain_contract(side, opened[0].contract.points)
    sessions = reference.load(build_sam(weights.state_dict, side), contract)
    return Candidate(PYTORCH, weights.provenance.weights_sha256, contract, sessions, 0)


def choose_dataset(options: dict[str, Any], opened: "Bundle") -> "Dataset":
    """What the options ask for."""
    from mobilesam_export.evaluation import dataset

    if options["annotations"] and not options["images"]:
        raise UsageError("--annotations needs --images, the folder of their pictures")
    if not options["images"]:
        return dataset.held_out_scenes(options["scenes"], opened.contract.image_size)
    if options["annotations"]:
        return dataset.coco(options["images"], options["annotations"])
    return dataset.picture_folder(options["images"])


def run(
    evaluation: "Evaluation",
    candidates: Sequence["Candidate"],
    reference: "Candidate | None",
    dataset: "Dataset",
    options: dict[str, Any],
) -> None:
    """Evaluate what is not done yet, with a bar."""
    from mobilesam_export.evaluation.log import EvaluationLog
    from mobilesam_export.evaluation.scores import evaluate_pictures
    from mobilesam_export.progress import items_bar

    names = dataset.names[: options["limit"]]
    identity = {
        "candidates": {candidate.name: candidate.identity for candidate in candidates},
        "reference": None if reference is None else reference.identity,
        "pictures": dataset.description,
    }
    log = EvaluationLog(options["save"], identity)
    done = {record["picture"] for record in log.records}
    for record in log.records:
        evaluation.add(record)
    left = [name for name in names if name not in done]
    with items_bar("Evaluating", len(names), done=len(names) - len(left)) as advance:
        for record in evaluate_pictures(candidates, reference, dataset, left):
            log.append(record)
            evaluation.add(record)
            advance()
    log.close()


def as_dict(evaluation: "Evaluation", sizes: dict[str, int], dataset: "Dataset") -> dict[str, Any]:
    """The figures for programs."""
    return {
        "dataset": dataset.description,
        "pictures": evaluation.pictures,
        "problems": evaluation.problems,
        "candidates": {
            name: {
                "objects": score.objects,
                "bytes": sizes[name],
                "mean": score.means(),
                "median_ms": score.latency(),
                "histogram": score.histogram.tolist(),
            }
            for name, score in evaluation.scores.items()
        },
    }


def print_table(dataset: "Dataset", evaluation: "Evaluation", rows: list[list[str]]) -> None:
    """The figures for people."""
    from rich.console import Console
    from rich.table import Table

    objects = max(score.objects for score in evaluation.scores.values())
    click.echo(
        f"{dataset.description}: {evaluation.pictures} evaluated, {objects} objects; mean IoU"
    )
    table = Table()
    for index, cell in enumerate(rows[0]):
        table.add_column(cell, justify="right" if index else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=None if Console().is_terminal else 160).print(table)
    for problem in evaluation.problems[:NAMED_PROBLEMS]:
        click.echo(f"left out: {problem}", err=True)
    if (more := len(evaluation.problems) - NAMED_PROBLEMS) > 0:
        click.echo(f"left out: and {more} more", err=True)


def write_report(
    path: Path, evaluation: "Evaluation", candidates: Sequence["Candidate"], dataset: "Dataset"
) -> None:
    """The HTML page, whole or not at all."""
    from mobilesam_export.evaluation.overlays import overlays
    from mobilesam_export.evaluation.report import render

    sizes = {candidate.name: candidate.bytes for candidate in candidates}
    shown = overlays(candidates, dataset, dataset.names[:SHOWN])
    page = render(f"Masks on {dataset.description}", evaluation, sizes, shown)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as exc:
        raise MobileSamExportError(f"cannot write {path}: {exc.strerror}") from exc
