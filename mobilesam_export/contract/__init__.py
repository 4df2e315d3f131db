"""The graph contract: names, shapes, types and meaning of every tensor. numpy only, no torch.

S is the side of the model's square, H and W are the sides of the input (both S, but for
rectangles), N is the number of prompt slots, Q that of prompt sets.
"""

from dataclasses import dataclass

from mobilesam_export.contract.frame import PATCH, Frame, square
from mobilesam_export.contract.specs import Array as Array
from mobilesam_export.contract.specs import GraphSpec as GraphSpec
from mobilesam_export.contract.specs import TensorSpec as TensorSpec
from mobilesam_export.contract.specs import fused_spec
from mobilesam_export.errors import UsageError
from mobilesam_export.target import GraphForm

# Bytes nearest to the model's zero (the means 123.675, 116.28, 103.53): what padding looks like.
FILL = (124, 116, 104)
MIN_POINTS, MAX_POINTS = 2, 1024
# Prompt sets of one call, and positions of the embedding in all of them together: at 1024 each set
# takes 30 MB of activations.
MAX_SETS, MAX_SET_POSITIONS = 64, 64 * 64**2
DEFAULT_POINTS = 6
# What PyTorch is asked in where no file's form counts: the simplest that there is.
PLAIN_FORM = GraphForm(layout="channel-last", image_input="uint8", prompt="slots")
# What `--split-decoder` adds.
SPLIT_FILES = ("prepare", "decoder_prepared")
# Every graph that a bundle may have a file of, in their order.
GRAPH_FILES = ("encoder", "decoder", "decoder_batch", *SPLIT_FILES, "segmenter")
# The predicted IoU of a mask that does not answer a prompt of that kind: below any of a network.
NOT_ASKED = -10.0
FOREGROUND, BACKGROUND, TOP_LEFT, BOTTOM_RIGHT, EMPTY = 1.0, 0.0, 2.0, 3.0, -1.0


@dataclass(frozen=True)
class Contract:
    """The interface of the files of a bundle.

    Attributes:
        image_size: S, a multiple of 64 from 256 up.
        points: N, the number of prompt slots; ignored where `form.prompt` is "sam".
        form: the export form.
        sets: Q, the prompt sets of the file `decoder_batch`; 0 if there is no such file.
        split: whether there are the files `prepare`, run once per image, and `decoder_prepared`,
            which answers prompts without a mask from what that made.
        frame: of a rectangle, whose longer side is S; None for all of the square.
    """

    image_size: int
    points: int
    form: GraphForm
    sets: int = 0
    split: bool = False
    frame: Frame | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that no graph can have.

        Raises:
            UsageError: they are out of range.
        """
        self.size.check()
        if self.size.side != self.image_size:
            raise ValueError(f"{self.size} lies in no square of {self.image_size}")
        if not (self.dynamic or MIN_POINTS <= self.points <= MAX_POINTS):
            raise UsageError(
                f"points is {self.points}; expected {MIN_POINTS} (a box takes two) to {MAX_POINTS}"
            )
        if self.dynamic and not self.size.is_square:
            raise UsageError(
                f"image size is {self.size}, but clients of SAM's own interface know squares only; "
                "use another target, such as onnx"
            )
        most = min(MAX_SETS, MAX_SET_POSITIONS // square(self.image_size).positions)
        self._check_further()
        if not 0 <= self.sets <= most:
            raise UsageError(
                f"prompt sets is {self.sets}; expected 1 to {most} at image size {self.size}"
            )

    def _check_further(self) -> None:
        """Refuse further files of interfaces that have none."""
        if self.sets and self.dynamic:
            raise UsageError(
                "there are no prompt sets with SAM's own interface, whose clients know one prompt "
                "a call; use another target, such as onnx"
            )
        if self.split and self.dynamic:
            raise UsageError(
                "SAM's own interface has one decoder, which is not split; "
                "use another target, such as onnx"
            )
        if self.fused and (self.sets or self.split):
            option = "--prompt-sets" if self.sets else "--split-decoder"
            raise UsageError(
                f"{option} adds files beside a decoder, but here one file takes image and prompt "
                "together, one prompt a call; use a target with a decoder"
            )

    def check_apart(self, what: str) -> None:
        """Refuse files of a fused contract where encoder and decoder are needed apart.

        Args:
            what: needs them, with a verb: "benchmark times".

        Raises:
            UsageError: there is one file for both.
        """
        if self.fused:
            raise UsageError(
                f"{what} an encoder and a decoder, and here one file is both; use a bundle of "
                "another target of the same backend"
            )

    @property
    def size(self) -> Frame:
        """Of the input, H x W; where S alone is given, that is the whole square."""
        return self.frame or square(self.image_size)

    @property
    def dynamic(self) -> bool:
        """Whether the decoder takes any number of points, with SAM's own ONNX names."""
        return self.form.prompt == "sam"

    @property
    def fused(self) -> bool:
        """Whether there is one file, `segmenter`, that takes an image and a prompt together.

        `encoder` and `decoder` are what it is made of then: its two halves, not files.
        """
        return self.form.prompt == "segmenter"

    @property
    def max_points(self) -> int:
        """The most slots that this project's own prompts fill: all, or 6 where N is dynamic."""
        return DEFAULT_POINTS if self.dynamic else self.points

    @property
    def encoder(self) -> GraphSpec:
        """The image encoder's interface."""
        return GraphSpec("encoder", (self._image(),), (self._embeddings(),))

    @property
    def decoder(self) -> GraphSpec:
        """The prompt encoder's and mask decoder's interface, one graph."""
        return self._decoder("decoder", 1)

    @property
    def decoder_batch(self) -> GraphSpec:
        """The same for `sets` prompts about one image; a file that is there if there are any."""
        return self._decoder("decoder_batch", self.sets)

    @property
    def segmenter(self) -> GraphSpec:
        """The one file of a fused contract."""
        return fused_spec(self.encoder, self.decoder)

    @property
    def graphs(self) -> tuple[GraphSpec, ...]:
        """The interfaces of all files: encoder, decoder, and the further ones that there are."""
        return (self.segmenter,) if self.fused else (self.encoder, self.decoder, *self.further)

    @property
    def answering(self) -> GraphSpec:
        """The interface of the file that answers a prompt."""
        return self.segmenter if self.fused else self.decoder

    @property
    def further(self) -> tuple[GraphSpec, ...]:
        """The interfaces of `decoder_batch`, `prepare` and `decoder_prepared`, as there are any."""
        batch = (self.decoder_batch,) if self.sets else ()
        return (*batch, self.prepare, self.decoder_prepared) if self.split else batch

    @property
    def prepare(self) -> GraphSpec:
        """What the decoder computes of the image alone, once per image."""
        return GraphSpec("prepare", (self._embeddings(),), self._prepared())

    @property
    def decoder_prepared(self) -> GraphSpec:
        """The decoder for prompts without a mask, on what `prepare` made."""
        asked = [x for x in self.decoder.inputs if x.name in ("point_coords", "point_labels")]
        return GraphSpec("decoder_prepared", (*self._prepared(), *asked), self.decoder.outputs)

    def _prepared(self) -> tuple[TensorSpec, ...]:
        positions = square(self.image_size).positions  # also of a rectangle's padding
        kinds = (
            ("image", 256, "the embedding without a mask prompt, position by position"),
            ("keys", 128, "of the image, for the first look of the tokens at it"),
            ("values", 128, "of the image, for the same"),
            ("queries", 128, "of the image, for its first look at the tokens"),
        )
        return tuple(
            TensorSpec(f"prepared_{name}", (1, 1, positions, width), "float32", meaning)
            for name, width, meaning in kinds
        )

    def _decoder(self, name: str, sets: int) -> GraphSpec:
        height, width = self.size.over(4)
        count: int | str = "num_points" if self.dynamic else self.points
        empty = '-1 "not a point"' if self.dynamic else "-1 an empty slot"
        asked = [
            self._embeddings(),
            TensorSpec(
                "point_coords",
                (sets, count, 2),
                "float32",
                f"x then y, in pixels of the {self.size.width} x {self.size.height} input",
            ),
            TensorSpec(
                "point_labels",
                (sets, count),
                "float32",
                "1 foreground, 0 background, 2 the box's top-left and 3 its bottom-right corner, "
                + empty,
            ),
        ]
        mask = [
            TensorSpec(
                "mask_input",
                (sets, 1, height, width),
                "float32",
                "mask logits of an earlier prediction, or zeros",
            ),
            TensorSpec("has_mask_input", (sets,), "float32", "1 if mask_input is used, else 0"),
        ]
        inputs = asked if self.fused else [*asked, *mask, *self._sizes()]
        return GraphSpec(name, tuple(inputs), tuple(self._masks(sets)))

    def _image(self) -> TensorSpec:
        size = self.size
        if self.form.image_input == "sam":
            return TensorSpec(
                "input_image",
                ("height", "width", 3),
                "float32",
                f"RGB 0..255, longest side resized to {size.side}, not padded",
            )
        if self.fused:
            meaning = f"RGB 0..1, stretched to {size.width} x {size.height}"
            return TensorSpec("image", (1, 3, *size.shape), "float32", meaning)
        dtype = "float32" if self.form.image_input == "float32" else "uint8"
        meaning = f"RGB 0..255, {_resized_to(size)}, placed top left, the rest filled with {FILL}"
        if self.form.image_input == "image":
            meaning += "; an image input of Core ML: pass a CVPixelBuffer"
        return TensorSpec("image", (1, *size.shape, 3), dtype, meaning)

    def _embeddings(self) -> TensorSpec:
        return TensorSpec(
            "image_embeddings",
            (1, 256, *self.size.over(PATCH)),
            "float32",
            "what the encoder found; compute it once per image",
        )

    def _sizes(self) -> list[TensorSpec]:
        if not self.dynamic:
            return []
        return [TensorSpec("orig_im_size", (2,), "float32", "height, width of the image")]

    def _meaning_of_iou(self) -> str:
        meaning = "predicted IoU of each mask"
        return (
            f"{meaning} that answers the prompt, {NOT_ASKED:g} of the others"
            if self.fused
            else meaning
        )

    def _masks(self, sets: int) -> list[TensorSpec]:
        count = 1 if self.dynamic else 4
        low_res = TensorSpec(
            "low_res_masks",
            (sets, count, *self.size.over(4)),
            "float32",
            "mask logits, foreground above 0"
            + ("" if self.dynamic else "; 0 the single-mask answer, 1..3 the multi-mask ones"),
        )
        iou = TensorSpec("iou_predictions", (sets, count), "float32", self._meaning_of_iou())
        if not self.dynamic:
            return [low_res, iou]
        full = TensorSpec(
            "masks",
            (1, 1, "height", "width"),
            "float32",
            "the same logits at the image's size",
        )
        return [full, iou, low_res]


def plain_contract(image_size: int, points: int) -> Contract:
    """The contract in which PyTorch answers beside bundles of any form: on the square, as trained.

    Args:
        image_size: S of the bundles.
        points: of their decoders; 0, as of decoders that take any number, for the default.
    """
    return Contract(image_size, points or DEFAULT_POINTS, PLAIN_FORM)


def _resized_to(size: Frame) -> str:
    if size.is_square:
        return f"longest side resized to {size.side}"
    return f"resized to the largest size that {size.width} x {size.height} holds"
