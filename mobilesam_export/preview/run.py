"""A bundle's path -> its preview, served until Ctrl-C."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from mobilesam_export import images
from mobilesam_export.backends import reference
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.checkpoint.load import load_matching_model
from mobilesam_export.evaluation.candidates import PYTORCH
from mobilesam_export.preview import server
from mobilesam_export.preview.pair import Pair
from mobilesam_export.progress import step

GOLDEN_IMAGE = "golden/landscape/image.png"


def serve_preview(
    folder: Path, image: Path | None, checkpoint: str | None, port: int, say: Callable[[str], None]
) -> None:
    """Load both models, encode the first image, say the address and serve the page.

    Args:
        folder: of the bundle.
        image: the first one; None for one of the bundle's golden images.
        checkpoint: what the bundle was made of; None for what it names.
        port: to listen on; 0 for any.
        say: gets the address once the page can be opened.

    Raises:
        MobileSamExportError: whatever is wrong, before anything is served.
    """
    with contextlib.closing(server.listen(port)) as listener:
        with step("Checking the bundle's hashes"):
            opened = open_bundle(folder)
        pixels = images.load_image(image or folder / GOLDEN_IMAGE)
        with step("Loading the bundle"):
            bundle = opened.predictor()
        with step("Loading the checkpoint for PyTorch"):
            sam = load_matching_model(opened.provenance, checkpoint, opened.contract.size)
            # Of the bundle's contract, so that both choose the mask by the same rule.
            pytorch = reference.load(sam, opened.contract)
        pair = Pair(bundle, pytorch)
        with step("Encoding the image"):
            first = pair.set_image(pixels)
        about = {
            "title": f"{opened.target}, {opened.recipe_name}",
            "bundle": bundle.encoder.runtime,
            "pytorch": PYTORCH,
            "weights": {"source": opened.provenance.source, "trained": opened.provenance.trained},
            "image": first,
        }
        token = server.new_token()
        app = server.make_app(pair, about, token, server.origin(listener))
        say(f"Open {server.address(listener, token)} (Ctrl-C ends)")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended its work by then
            server.serve(listener, app)
