"""`mobilesam-export distill`: parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import JSON, OK, RAY, WORKERS, check_outputs, print_json

if TYPE_CHECKING:
    from mobilesam_export.distillation.run import DistillResult

LOSSES = ("mse", "huber", "cosine", "mse+cosine")  # as in distillation.options, which needs numpy
PATH = click.Path(path_type=Path)


@click.command("distill")
@click.argument("images")
@click.option("-o", "--out", required=True, type=PATH, help="The student's .safetensors file.")
@click.option(
    "--teacher",
    default="official",
    show_default=True,
    metavar="SOURCE",
    help="A checkpoint: official, demo, seeded, or a file of MobileSAM or SAM ViT-B, L or H.",
)
@click.option(
    "--student",
    default="mobilesam",
    show_default=True,
    metavar="NAME",
    help="Architecture of the encoder: mobilesam, half, or a .toml of widths and depths; "
    "TARGET:RECIPE: the teacher's, with the numbers that the recipe's file computes with.",
)
@click.option(
    "--init",
    metavar="SOURCE",
    help="Checkpoint that its encoder begins with; from a wider one, channels are chosen and "
    "weights fitted. [default: seeded, from nothing; of TARGET:RECIPE the teacher]",
)
@click.option("--image-size", default=1024, show_default=True, help="Side of the square input.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the images. [default: 8]")
@click.option("--steps", type=click.IntRange(1), help="Of the optimizer, instead of epochs.")
@click.option(
    "--mask-steps",
    default=0,
    show_default=True,
    help="Further steps that compare masks as well, through the frozen decoder.",
)
@click.option("--batch", default=8, show_default=True, help="Images of a step, all processes.")
@click.option("--held-out", default=8, show_default=True, help="Images for the figures.")
@click.option(
    "--views",
    default=1,
    show_default=True,
    help="Versions of each image: 1 the whole, more: crops and flips; 0: new ones each epoch.",
)
@click.option("--loss", default="mse", show_default=True, type=click.Choice(LOSSES))
@click.option(
    "--learning-rate",
    type=float,
    help="Its maximum. [default: 3e-4; of TARGET:RECIPE 3e-6 in four bits, 1e-6 in eight]",
)
@click.option("--seed", default=0, show_default=True, help="Of the order of images.")
@click.option("--cache", type=PATH, help="Folder of embeddings. [default: beside --out]")
@click.option(
    "--cache-gb", default=20.0, show_default=True, help="Its limit; the rest is computed again."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda if there is]")
@RAY
@WORKERS
@click.option("--report", type=PATH, help="Write an HTML page.")
@click.option("--plot", type=PATH, help="Draw the curves, a .png.")
@JSON
def distill_command(as_json: bool, ray: str | None, workers: int, **values: Any) -> int:
    """Train an encoder on IMAGES, without labels.

    It learns to give the embeddings of a heavier one. IMAGES is a folder, or scenes:COUNT for
    generated ones. The mask decoder stays the teacher's, byte for byte, so that FILE is a
    checkpoint for `-c`. Called again with the same options, it goes on where it was. On several
    GPUs: torchrun --nproc-per-node N -m mobilesam_export distill. On a cluster: --ray.

    With --student TARGET:RECIPE the encoder learns to bear what the recipe's numbers do to it, and
    FILE is for exports by that recipe.

    \b
    Example:
      mobilesam-export distill photos --teacher sam_vit_h_4b8939.pth -o student.safetensors
      mobilesam-export distill photos --student half --init official -o half.safetensors
      mobilesam-export distill photos --student onnx:w4 --steps 300 --batch 2 -o w4.safetensors
    """
    from mobilesam_export.distillation.cluster import run_on_ray
    from mobilesam_export.distillation.options import DistillOptions
    from mobilesam_export.distillation.run import run

    options = DistillOptions(**values)
    outputs = {".safetensors": options.out, ".html": options.report, ".png": options.plot}
    check_outputs(outputs)
    result = run_on_ray(options, ray, workers) if ray else run(options)
    if result.main:
        if as_json:
            print_json(result.as_dict())
        else:
            print_summary(result)
    return OK


def print_summary(result: "DistillResult") -> None:
    """The figures before and after, and what to type next."""
    from mobilesam_export.distillation.loop import as_table
    from mobilesam_export.distillation.report import epochs_table
    from mobilesam_export.tables import columns

    epochs = result.log.epochs
    click.echo(f"{result.options.out}: {len(result.log.losses)} steps; on held-out images:")
    click.echo(columns(as_table(epochs_table([epochs[0], epochs[-1]]))))
    size, (target, _, recipe) = result.options.image_size, result.options.student.rpartition(":")
    command = f"mobilesam-export {target} -r {recipe}" if target else "mobilesam-export onnx"
    click.echo(f"next: {command} -c {result.options.out} --image-size {size}")
