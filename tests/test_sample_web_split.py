"""The web sample on a bundle with `prepare`: same masks, and the decoder itself only when asked."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilesam_export import Prompt, open_bundle
from mobilesam_export.metrics import mask_iou
from tests.test_sample_web import TIMEOUT_MS, copied, served
from tests.test_split_decoder import SPLIT, exported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

POINT = (100, 60)
SCRIPT = """async ([x, y]) => {
    const { MobileSAM } = await import("./mobilesam.js");
    const files = async () => {
        const kept = await (await caches.open("mobilesam")).keys();
        return kept.map(({ url }) => new URL(url).pathname.split("/").pop()).sort();
    };
    const sam = await MobileSAM.load();
    await sam.setImage(await (await fetch("../../golden/landscape/image.png")).blob());
    const points = [{ x, y }];
    const clicked = await sam.segment({ points });
    const before = await files();
    const refined = await sam.segment({ points, previousMask: clicked.logits });
    const masks = [clicked, refined].map(({ mask }) => Array.from(mask));
    return [masks, before, await files()];
}"""


def test_prepared_files_answer_clicks_and_the_decoder_answers_masks(
    browser: "Browser", shared: Path, onnx_demo_bundle: Path, node_modules: Path, tmp_path: Path
) -> None:
    bundle = copied(exported(shared / SPLIT, onnx_demo_bundle), tmp_path / "bundle", node_modules)
    page = browser.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    with served(bundle) as address:
        page.goto(f"{address}errors.js")  # shown as text: nothing but the script runs
        masks, before, after = page.evaluate(SCRIPT, POINT)
    page.close()
    assert before == ["decoder_prepared.onnx", "encoder.onnx", "prepare.onnx"]
    assert after == ["decoder.onnx", *before]
    predictor = open_bundle(bundle).predictor()
    image = predictor.embed(bundle / "golden" / "landscape" / "image.png")
    click = Prompt(points=((*POINT, True),))
    answer = predictor.predict(click, image)
    refined = Prompt(points=click.points, mask_input=answer.low_res_mask)
    for mask, prompt in zip(masks, (click, refined), strict=True):
        expected = predictor.predict(prompt, image).mask
        assert mask_iou(np.reshape(mask, expected.shape) > 0, expected) >= 0.99
