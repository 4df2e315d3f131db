"""Target files: what is in ours, and what is refused in anyone's."""

import re
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export.backends import get_backend
from mobilesam_export.errors import TargetError
from mobilesam_export.target import Recipe, builtin_targets, load_target, parse_target
from mobilesam_export.target.source import Source

GOOD = resources.files("mobilesam_export.targets").joinpath("onnx.toml").read_text()


def test_the_targets_of_the_package_are_found() -> None:
    assert builtin_targets() == [
        *("coreai", "coreai-segmenter", "coreml", "executorch", "onnx", "onnx-sam", "tflite"),
        "tflite-gpu",
    ]


@pytest.mark.parametrize("name", builtin_targets())
def test_every_target_loads_and_its_backend_takes_every_recipe(name: str) -> None:
    target = load_target(name)
    backend = get_backend(target.backend)
    for recipe in target.recipes.values():
        backend.parse_recipe(recipe, target.graph, {**target.convert, **recipe.convert})
    assert target.recipe(None)[0] == target.default_recipe


def test_a_path_works_wherever_a_name_does(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_target(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('backend = "onnx"', 'backend = "onnx"\nopsett = 1', "unknown key 'opsett'"),
        ('image_input = "uint8"', 'image_input = "uint8"\nlayuot = "x"', "unknown key 'layuot'"),
        ("mask_iou = 0.999", "mask_iuo = 0.999", "unknown key 'mask_iuo'"),
        ('weights = "float32"', 'wieghts = "float32"', "unknown key 'wieghts'"),
        ('backend = "onnx"', "", "missing key 'backend'"),
        ("mask_iou = 0.999", "", "missing key 'mask_iou'"),
        ("mask_iou = 0.999", 'mask_iou = "high"', "expected float"),
        ("mask_iou = 0.999", "mask_iou = 99", "mask_iou is 99.0; expected a finite number, 0 to 1"),
        ("mask_iou = 0.999", "mask_iou = -inf", "mask_iou is -inf"),
        ("mask_iou = 0.999", f"mask_iou = {10**400}", "expected float, found 1000000"),
        ("mask_iou = 0.999", f"mask_iou = {'9' * 5000}", "not valid TOML"),
        ("psnr_db = 100", "psnr_db = inf", "embedding_psnr_db is inf; .* 0 or more"),
        ("psnr_db = 100", "psnr_db = nan", "embedding_psnr_db is nan"),
        ("iou_max_abs_error = 1e-3", "iou_max_abs_error = 1.5", "iou_max_abs_error is 1.5"),
        ("logits_error = 5e-5", "logits_error = -1", "is -1.0; .* 0 or more"),
        ("logits_error", "logits_max_abs_error", "use logits_error, in standard deviations"),
        ('image_input = "uint8"', 'image_input = "int8"', "expected one of: uint8"),
        ('weights = "float32"', 'weights = "float64"', "expected one of: float32"),
        ('default_recipe = "float32"', 'default_recipe = "w2"', "default_recipe is 'w2'"),
        ('backend = "onnx"', "backend = 3", "expected str"),
        (
            'keep_float32 = ["PointTokens", "PixelsInput", "neck.2"]',
            'keep_float32 = "all"',
            "list of str",
        ),
        ("[graph]", "[graph", "not valid TOML"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(TargetError, match=message.replace("[", r"\[")) as caught:
        parse_target("mine", GOOD.replace(old, new, 1))
    assert len(str(caught.value)) < 400


def test_a_target_needs_a_recipe() -> None:
    with pytest.raises(TargetError, match="at least one"):
        parse_target("mine", GOOD.partition("[recipe")[0])


def refused_line(text: str) -> str:
    """The line that the error for a text names."""
    with pytest.raises(TargetError) as caught:
        parse_target("mine", text, "folder/mine.toml")
    found = re.match(r"folder/mine\.toml, line (\d+): ", str(caught.value))
    assert found, caught.value
    return text.split("\n")[int(found[1]) - 1]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('prompt = "slots"', 'prompt = "slots"\ngelus = 1', "gelus = 1"),
        ('prompt = "slots"\n', "", "[graph]"),
        ("opset = 23", "opset = 23\n[recipe.w8a8.quantise]", "[recipe.w8a8.quantise]"),
        ('default_recipe = "float32"', 'default_recipe = "x"', 'default_recipe = "x"'),
        ('layout = "channel-last"', 'layout = "last"', 'layout = "last"'),
        ("weight_threshold = 4000", "weight_threshold = -1", "weight_threshold = -1 # elements"),
        ("mask_iou = 0.999", "mask_iou = 2", "mask_iou = 2"),
    ],
)
def test_an_error_names_the_line(old: str, new: str, line: str) -> None:
    assert old in GOOD
    assert refused_line(GOOD.replace(old, new, 1)).startswith(line)


@pytest.mark.parametrize("recipe", ["float32", "w8", "w4"])
def test_a_key_of_the_same_name_in_another_table_is_another_one(recipe: str) -> None:
    before, table, after = GOOD.partition(f"[recipe.{recipe}.tolerance]\n")
    text = before + table + after.replace("mask_iou =", "mask_iou = nan # this", 1)
    assert text.count("# this") == 1
    assert "# this" in refused_line(text)


def test_text_that_looks_like_a_key_is_none() -> None:
    decoy = 'description = """\n[graph]\nlayuot = 1\n"""\n# layuot = 1\n'
    text = decoy + GOOD.partition("\n")[2].replace("[graph]", "[graph]\nlayuot = 2", 1)
    assert refused_line(text) == "layuot = 2"


WORDS = st.sampled_from(["a", "b", "weights", '"x.y"', '"# no"'])
VALUES = st.sampled_from(
    ["1", '"b = 2"', "[\n  1, # a = 1\n  2,\n]", "'''\n[a]\nb = 1\n'''", "{ a = 1 }"]
)


@given(
    st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, min_size=1), min_size=1),
    st.booleans(),
)
@settings(deadline=None, derandomize=True)
def test_lines_are_those_of_the_keys(tables: dict[str, dict[str, str]], windows: bool) -> None:
    lines = ["# a = 1", ""]
    expected: dict[tuple[str, ...], int] = {}
    for table, keys in tables.items():
        lines.append(f"[{table}]")
        expected[(table.strip('"'),)] = len(lines)
        for key, value in keys.items():
            expected[(table.strip('"'), key.strip('"'))] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    source = Source("mine.toml", ("\r\n" if windows else "\n").join(lines))
    assert {keys: source.line(keys) for keys in expected} == expected
    assert source.line(("nothing",)) == 0
    assert (
        source.line((next(iter(tables)).strip('"'), "nothing"))
        == lines.index(f"[{next(iter(tables))}]") + 1
    )


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert load_target(str(path)).recipes == load_target("onnx").recipes


def test_older_words_of_the_form_are_read() -> None:
    older = GOOD.replace("image_input =", "pixels =").replace(
        "mlp_chunks = true", 'hidden = "parts"'
    )
    assert older != GOOD
    assert parse_target("onnx", older).graph == load_target("onnx").graph
    with pytest.raises(TargetError, match="'pixels' is the old name of 'image_input'"):
        parse_target("mine", GOOD.replace("[graph]", '[graph]\npixels = "uint8"'))
    with pytest.raises(TargetError, match="hidden is 'both'; expected one of: whole, parts"):
        parse_target("mine", older.replace('"parts"', '"both"'))


SHARED = """
[exceptions.decoder]
"transformer.*" = "float16"
"transformer.final" = "float16"

[recipe.w8.exceptions.decoder]
"transformer.final" = "int8"
"neck" = "float32"
"""


def with_shared(more: str = "") -> Recipe:
    table = GOOD[GOOD.index("[exceptions.decoder]") :]
    text = GOOD.replace(table[: table.index("\n\n")], "")
    text = text.replace("[recipe.w8]", f"[recipe.w8]\n{more}", 1) + SHARED
    return parse_target("mine", text).recipes["w8"]


def test_a_recipe_adds_to_the_exceptions_of_its_target_and_overrides_them() -> None:
    exceptions = with_shared().exceptions["decoder"]
    assert exceptions == {
        "transformer.*": "float16",
        "transformer.final": "int8",
        "neck": "float32",
    }
    assert list(exceptions)[-1] == "neck"


def test_a_recipe_can_leave_out_the_exceptions_of_its_target() -> None:
    exceptions = with_shared("inherit_exceptions = false").exceptions["decoder"]
    assert exceptions == {"transformer.final": "int8", "neck": "float32"}


def test_what_is_not_compressed_has_no_exceptions() -> None:
    assert load_target("onnx").recipes["float16"].exceptions == {}


def test_an_error_about_a_recipe_is_located_where_the_word_stands() -> None:
    """In the recipe's table, or in the target's own."""
    target = load_target("onnx")
    for keys, line in (
        (("quantize", "gelu"), 'gelu = "tanh"'),
        (("convert", "opset"), "opset = 23"),
        (("exceptions", "decoder", "transformer.final.v"), '"transformer.final.v" = "float16"'),
        (("quantize", "nothing"), "[recipe.w8a8.quantize]"),
        ((), "[recipe.w8a8]"),
    ):
        with (
            pytest.raises(TargetError, match="recipe w8a8: oh no") as caught,
            target.locating("recipe", "w8a8"),
        ):
            raise TargetError("oh no", *keys)
        found = re.match(r"targets/onnx\.toml, line (\d+): ", str(caught.value))
        assert found
        assert GOOD.split("\n")[int(found[1]) - 1].startswith(line)
