"""`preview`: a local page that shows a bundle's masks beside PyTorch's as you click."""

from pathlib import Path

import click

from mobilesam_export.commands.common import BUNDLE, OK

EXTRA = "preview"


@click.command("preview")
@BUNDLE
@click.argument("image", type=click.Path(path_type=Path), required=False)
@click.option("-c", "--checkpoint", help="What it was made of. [default: what it names]")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on. [default: any]"
)
def preview_command(bundle: Path, image: Path | None, checkpoint: str | None, port: int) -> int:
    """Click on IMAGE in the browser, with BUNDLE and PyTorch.

    Their masks stand side by side, with the IoU. Without IMAGE the page begins with a golden image
    of the bundle. The address that is printed works on this machine only.

    \b
    Example:
      mobilesam-export preview build/onnx-float32 photo.jpg
    """
    from mobilesam_export import packages

    packages.require("starlette", "uvicorn", extra=EXTRA)
    packages.require("torch", extra="torch")
    from mobilesam_export.preview.run import serve_preview

    serve_preview(bundle, image, checkpoint, port, click.echo)
    return OK
