"""The plain model is the official one: names, shapes, values, and no stale caches."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import golden_vectors
from mobilesam_export import prompts
from mobilesam_export.backends import reference
from mobilesam_export.contract import Contract
from mobilesam_export.contract.frame import square
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.model.tiny_vit import attention_offsets
from mobilesam_export.target import load_target

OFFICIAL_ENTRIES = Path(__file__).parent / "data" / "state_dict.json"


def test_state_dict_has_the_official_entries_in_the_official_order() -> None:
    expected = [(name, shape) for name, shape, _ in json.loads(OFFICIAL_ENTRIES.read_text())]
    assert [(name, list(value.shape)) for name, value in Sam().state_dict().items()] == expected


@pytest.mark.slow
def test_embedding_equals_the_official_one(mobilesam: dict[str, torch.Tensor]) -> None:
    sam = build_sam(mobilesam)
    golden = golden_vectors.load()[0]
    contract = Contract(1024, 6, load_target("onnx-sam").graph)
    (image,) = prompts.encoder_inputs(golden.image, contract).values()
    normalized = reference.normalize(image, square(1024))
    assert (normalized[0, :, ::32, ::32] - torch.from_numpy(golden.input_sub)).abs().max() <= 1e-6
    embedding = sam.encode(normalized)[0, ::8, ::4, ::4]
    assert (embedding - torch.from_numpy(golden.embedding_sub)).abs().max() <= 1e-4


def test_offsets_are_shared_by_pairs_at_the_same_distance() -> None:
    offsets = attention_offsets(3)
    assert offsets.shape == (9, 9)
    assert offsets.max() == 8  # |dy|, |dx| in 0..2
    assert offsets[0, 0] == offsets[4, 4] == 0
    assert offsets[0, 1] == offsets[1, 0] == offsets[7, 8]
    assert offsets[0, 1] != offsets[0, 3]


def test_attention_bias_is_not_stale_when_eval_comes_before_loading(
    mobilesam: dict[str, torch.Tensor],
) -> None:
    """The official builder's trap: eval() before load_state_dict() keeps a bias of zeros."""
    image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    trapped = Sam(256).eval()
    trapped.encode(image)
    trapped.load_state_dict(mobilesam)
    assert torch.equal(trapped.encode(image), build_sam(mobilesam, 256).encode(image))


def test_attention_bias_matters(mobilesam: dict[str, torch.Tensor]) -> None:
    """So the test above can fail: zero biases do change the embedding."""
    image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    unbiased = {k: v * 0 if "attention_biases" in k else v for k, v in mobilesam.items()}
    biased = build_sam(mobilesam, 256).encode(image)
    assert (biased - build_sam(unbiased, 256).encode(image)).abs().max() > 0.1


@pytest.mark.parametrize("size", [256, 320, 448])
def test_any_multiple_of_64_is_an_image_size(size: int, mobilesam: dict[str, torch.Tensor]) -> None:
    sam = build_sam(mobilesam, size)
    embeddings = sam.encode(torch.zeros(1, 3, size, size))
    assert embeddings.shape == (1, 256, size // 16, size // 16)
    masks, iou = sam.decode(embeddings, torch.tensor([[[9.0, 9.0]]]), torch.tensor([[1]]))
    assert masks.shape == (1, 4, size // 4, size // 4)
    assert iou.shape == (1, 4)


@pytest.mark.parametrize("kind", ["point", "box", "mask"])
def test_prompts_are_answered_on_the_weights_device(kind: str) -> None:
    """On torch's device without data, which mixes with the CPU as little as a GPU does."""
    sam = Sam(256).to("meta")
    points = torch.empty(3, 1, 2, device="meta") if kind == "point" else None
    logits, ious = sam.decode(
        torch.empty(1, 256, 16, 16, device="meta"),
        points,
        None if points is None else torch.empty(3, 1, device="meta"),
        torch.empty(3, 4, device="meta") if kind == "box" else None,
        torch.empty(3, 1, 64, 64, device="meta") if kind == "mask" else None,
    )
    assert (logits.device.type, logits.shape, ious.shape) == ("meta", (3, 4, 64, 64), (3, 4))
