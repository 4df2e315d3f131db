"""MobileSAM to Core ML, TFLite and ONNX files, verified against PyTorch; see README.md.

This is the public API:

    bundle = export("onnx", checkpoint="demo", out="build/onnx")
    predictor = open_bundle("build/onnx").predictor()
    image = predictor.embed("photo.jpg")
    answer = predictor.predict(Prompt(points=((320, 240, True),)), image)

Importing it is cheap: what a name needs is imported when the name is first used. Every error is a
`MobileSamExportError`. Progress goes to stderr.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from mobilesam_export.bundle.manifest import Bundle, open_bundle
    from mobilesam_export.errors import MobileSamExportError
    from mobilesam_export.predictor import Answer, EmbeddedImage, Predictor
    from mobilesam_export.prompts import Prompt

    __version__: str

__all__ = [
    "Answer",
    "Bundle",
    "EmbeddedImage",
    "MobileSamExportError",
    "Predictor",
    "Prompt",
    "__version__",
    "export",
    "open_bundle",
]

_MODULES = {
    "Answer": "predictor",
    "Bundle": "bundle.manifest",
    "EmbeddedImage": "predictor",
    "MobileSamExportError": "errors",
    "Predictor": "predictor",
    "Prompt": "prompts",
    "open_bundle": "bundle.manifest",
}


def export(  # noqa: PLR0913 the options of the command line, each by its name
    target: str,
    *,
    recipe: str | None = None,
    checkpoint: "str | Path" = "official",
    out: "str | Path | None" = None,
    image_size: "int | str" = 1024,
    margin: int | None = None,
    points: int = 6,
    calibration: "str | Path | None" = None,
    verify: bool = True,
    fit: bool = True,
    min_iou: float | None = None,
    prompt_sets: int | None = None,
    split_decoder: bool = False,
    keep_failed: bool = False,
    recover: int = 0,
) -> "Bundle":
    """Convert, verify and bundle MobileSAM, as the command of the target's name does.

    Args:
        target: name of a built-in target, such as "coreml", or the path of a target's .toml.
        recipe: precision or quantization, or None for the target's default.
        checkpoint: "official", "demo", "seeded[:STUDENT][:SALT]", or the path of a .pt, .pth or
            .safetensors file.
        out: folder of the bundle, or None for build/TARGET-RECIPE. A bundle there is replaced.
        image_size: side of the square input in pixels, a multiple of 64 from 256 to 4096; or
            "WIDTHxHEIGHT", such as "1024x768", for images of one shape.
        margin: of such a rectangle, how many pixels of the square's padding the encoder computes
            all the same, a multiple of 16; None for 96.
        points: prompt slots of the decoder, 2 or more; a box takes two.
        calibration: folder of images for static recipes, or None for generated scenes.
        verify: whether to run the files and compare them with PyTorch.
        fit: whether layers are raised in precision where the recipe does not hold.
        min_iou: least mean mask IoU against PyTorch, over 0 to 1, or None for the recipe's
            tolerance alone.
        prompt_sets: how many prompts about one image a further file, `decoder_batch`, answers at
            once, 1 to 64; None for no such file.
        split_decoder: whether `prepare` and `decoder_prepared` are added: what depends on the image
            only is computed once per image then, for faster clicks.
        keep_failed: whether files that fail verification are written as well.
        recover: steps of training by which the encoder learns to bear the recipe, before anything
            is raised in precision; 0 for none.

    Returns:
        The bundle, opened; its `status` says whether its files passed.

    Raises:
        VerificationError: the files do not compute what PyTorch computes, and nothing is written.
        MobileSamExportError: an argument is wrong, or a stage fails; nothing is written.
    """
    from pathlib import Path

    from mobilesam_export import pipeline
    from mobilesam_export.bundle.manifest import open_bundle
    from mobilesam_export.errors import VerificationError
    from mobilesam_export.target import load_target

    job = pipeline.Job(
        target=load_target(target),
        recipe=recipe,
        checkpoint=str(checkpoint),
        out=None if out is None else Path(out),
        image_size=image_size,
        margin=margin,
        points=points,
        verify=verify,
        calibration=None if calibration is None else Path(calibration),
        fit=fit,
        min_iou=min_iou,
        prompt_sets=prompt_sets,
        split_decoder=split_decoder,
        keep_failed=keep_failed,
        recover=recover,
    )
    outcome = pipeline.export(job)
    if outcome.folder is None:
        raise VerificationError(outcome.report.summary())
    return open_bundle(outcome.folder)


def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever has that name
    if name == "__version__":
        from importlib.metadata import version

        return version("mobilesam-export")
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
