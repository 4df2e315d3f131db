"""The [graph] table of a target: its export form."""

from dataclasses import dataclass

from mobilesam_export.errors import TargetError
from mobilesam_export.target.words import check_choice

LAYOUTS = ("channel-last", "channel-first", "batch-one")
UPSAMPLINGS = ("transposed", "pointwise")
IMAGE_INPUTS = ("uint8", "float32", "image", "sam", "segmenter")
PROMPTS = ("slots", "sam", "segmenter")
ROW_TILES = (0, 1, 2, 4, 8, 16)
GELUS = ("none", "tanh")  # torch's words; "none" is the exact form
ATTENTIONS = ("manual", "sdpa", "per-head")
PRODUCTS = ("whole", "short")


@dataclass(frozen=True)
class GraphForm:
    """Form of the exported graphs, independent of the weights.

    Attributes:
        layout: position of the channels in TinyViT's transformer stages.
        image_input: the encoder's input. "uint8" or "float32" (1, S, S, 3); "image" a Core ML
            image of S x S; "sam" (H, W, 3) float32 with H, W <= S. RGB 0..255 in each case, but
            for "segmenter": (1, 3, H, W) float32 RGB 0..1.
        prompt: "slots" (a fixed number, each filled or neutral), "sam" (any number, with SAM's own
            ONNX names), or "segmenter" (slots again, in one file with the image: the interface of
            EfficientSAM, as Apple's ImageSegmenter runs it). The last two go with the image input
            of the same name.
        gelu: "none" (exact) or "tanh".
        attention: of channel-first windows. "manual" (two matrix products), "sdpa" (the
            fused operation of iOS 18), or "per-head" (one head at a time).
        mlp_chunks: whether the expanded maps of MLPs and bottlenecks are computed in chunks of
            their channels of at most 4 S**2 elements, which takes less memory; in layouts other
            than channel-first only those of the bottlenecks are.
        row_tiles: for channel-last: the encoder is computed down to its map of S/8 rows in so many
            tiles of rows, one after the other, and the transformer stages in a few, so that its
            largest maps never exist as a whole; 1x1 convolutions are products of pixels and a
            matrix, which recipes can quantise pixel by pixel. 0: no tiles.
        upsampling: for batch-one: the decoder's two "transposed" convolutions, or
            "pointwise" ones, which every GPU supports.
        products: for channel-first: of matrices in the decoders. "whole", or "short" for runtimes
            that add them up in float16: linear layers are 1x1 convolutions then, and averages over
            the image are sums of products of 64 terms at most.
    """

    layout: str
    image_input: str
    prompt: str
    gelu: str = "none"
    attention: str = "manual"
    mlp_chunks: bool = False
    row_tiles: int = 0
    upsampling: str = "transposed"
    products: str = "whole"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("layout", LAYOUTS),
            ("image_input", IMAGE_INPUTS),
            ("prompt", PROMPTS),
            ("gelu", GELUS),
            ("attention", ATTENTIONS),
            ("row_tiles", ROW_TILES),
            ("upsampling", UPSAMPLINGS),
            ("products", PRODUCTS),
        ):
            check_choice(f"graph.{name}", getattr(self, name), allowed, name)
        for name, layout in (
            ("attention", "channel-first"),
            ("row_tiles", "channel-last"),
            ("upsampling", "batch-one"),
            ("products", "channel-first"),
        ):
            value = getattr(self, name)
            if value != type(self).__dataclass_fields__[name].default and self.layout != layout:
                raise TargetError(
                    f'graph.{name} is for layout = "{layout}", found {value!r} '
                    f'and layout "{self.layout}"',
                    name,
                )
        if "segmenter" in (self.image_input, self.prompt) and self.image_input != self.prompt:
            raise TargetError(
                'graph.image_input = "segmenter" goes with prompt = "segmenter", found '
                f"{self.image_input!r} and {self.prompt!r}",
                "prompt",
            )
        if self.row_tiles and self.mlp_chunks:
            raise TargetError(
                "graph.row_tiles already makes expanded maps small, found mlp_chunks = true too",
                "mlp_chunks",
            )
