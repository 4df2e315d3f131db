"""Budgets as files, and what they say of made-up rows."""

from pathlib import Path

import pytest

from mobilesam_export.benchmark.budget import PAPER, Budget, judge, load_budget
from mobilesam_export.benchmark.row import Row
from mobilesam_export.benchmark.statistics import Latency, summarize
from mobilesam_export.errors import BudgetError
from mobilesam_export.verification.status import Status

HERE = ("AMD EPYC", "")
GPU = ("AMD EPYC", "NVIDIA H200")


def row(device: str, component: str, median_ms: float, **more: object) -> Row:
    latency = Latency(30, median_ms, median_ms * 2, None, median_ms, 0.1)
    return Row("bundle", "runtime", device, component, latency=latency, **more)  # type: ignore[arg-type]


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_papers_budget_is_8_and_4_ms_on_a_gpu() -> None:
    assert load_budget("paper") is PAPER
    found = judge(PAPER, [row("cuda", "encoder", 7.9), row("cuda", "decoder", 4.1)], GPU)
    assert [(j.component, j.limit_ms, j.status) for j in found] == [
        ("encoder", 8.0, Status.PASSED),
        ("decoder", 4.0, Status.FAILED),
    ]


def test_without_a_gpu_the_papers_budget_is_unverified_and_says_so() -> None:
    found = judge(PAPER, [row("cpu", "encoder", 0.1)], HERE)
    assert {(j.status, j.reason) for j in found} == {(Status.UNVERIFIED, "no GPU here")}


def test_a_limit_is_kept_when_it_is_met_exactly() -> None:
    budget = Budget("b", "cpu", {"median_ms": {"encoder": 5.0}})
    assert judge(budget, [row("cpu", "encoder", 5.0)], HERE)[0].status is Status.PASSED


def test_each_row_of_the_device_is_judged_by_the_statistic_that_was_asked_for() -> None:
    budget = Budget("b", "cpu", {"p90_ms": {"encoder": 15.0}})
    rows = [row("cpu", "encoder", 5.0), row("cpu", "encoder", 10.0), row("cuda", "encoder", 99.0)]
    found = judge(budget, rows, HERE)
    assert [(j.found_ms, j.status) for j in found] == [
        (10.0, Status.PASSED),
        (20.0, Status.FAILED),
    ]


def test_a_fast_wrong_answer_keeps_no_budget() -> None:
    budget = Budget("b", "cpu", {"median_ms": {"encoder": 15.0}})
    found = judge(budget, [row("cpu", "encoder", 1.0, answers="PSNR 3 dB")], HERE)
    assert (found[0].status, found[0].reason) == (Status.FAILED, "PSNR 3 dB")


def test_a_row_that_could_not_be_measured_is_unverified_with_its_reason() -> None:
    budget = Budget("b", "all", {"median_ms": {"encoder": 15.0}})
    missing = Row("b", "Core ML", "all", "encoder", unverified="Core ML needs macOS")
    found = judge(budget, [missing], HERE)
    assert (found[0].status, found[0].reason) == (Status.UNVERIFIED, "Core ML needs macOS")


@pytest.mark.parametrize(
    ("pattern", "status"), [("*EPYC*", Status.PASSED), ("*Apple*", Status.UNVERIFIED)]
)
def test_a_budget_for_another_product_is_unverified(pattern: str, status: Status) -> None:
    budget = Budget("b", "cpu", {"median_ms": {"encoder": 15.0}}, device_name=pattern)
    found = judge(budget, [row("cpu", "encoder", 1.0)], HERE)
    assert [j.status for j in found] == [status]


def test_imported_rows_are_matched_by_their_own_device() -> None:
    budget = Budget("b", "android-cpu", {"median_ms": {"encoder": 15.0}}, device_name="*Pixel*")
    rows = [row("android-cpu", "encoder", 1.0, machine=name) for name in ("Pixel 8", "Galaxy")]
    assert [j.status for j in judge(budget, rows, HERE)] == [Status.PASSED]


def test_a_file_is_read(tmp_path: Path) -> None:
    text = """
        device = "cpu"
        device_name = "*EPYC*"
        [median_ms]
        encoder = 400
        [p90_ms]
        click_to_mask = 99.5
        [peak]
        gflops = 100
        gb_per_s = 20
    """
    assert load_budget(write(tmp_path, text)) == Budget(
        "mine",
        "cpu",
        {"median_ms": {"encoder": 400.0}, "p90_ms": {"click_to_mask": 99.5}},
        "*EPYC*",
        {"gflops": 100.0, "gb_per_s": 20.0},
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('device = "cpu"\n[median_ms]\nbackbone = 5', "unknown component 'backbone'.*encoder"),
        ('device = "cpu"\n[median_ms]\nencoder = "5"', "encoder is '5'; expected a number above"),
        ('device = "cpu"\n[median_ms]\nencoder = 0', "expected a number above 0"),
        ('device = "cpu"\n[median_ms]\nencoder = true', "expected a number above 0"),
        ('device = "cpu"\n[median_ms]\nencoder = inf', "expected a number above 0"),
        ('device = "cpu"\nmedian_ms = 5', "expected a table, found 5"),
        ('device = "cpu"\n[mean_ms]\nencoder = 5', "unknown key 'mean_ms'.*median_ms"),
        ('device = "cpu"', "no limit"),
        ("[median_ms]\nencoder = 5", "missing key 'device'"),
        ("device = 5\n[median_ms]\nencoder = 5", "device is 5; expected a name"),
        ('device = "cpu"\n[median_ms]\nencoder = 5\n[peak]\ngflops = 1', "takes both"),
        ("device = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BudgetError, match=said) as caught:
        load_budget(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["papers", "missing.toml"])
def test_no_such_budget_is_one_line(name: str) -> None:
    with pytest.raises(BudgetError, match=r"no budget 'papers'|cannot read budget missing\.toml"):
        load_budget(name)


def test_a_summary_of_real_times_is_judged_as_it_stands() -> None:
    budget = Budget("b", "cpu", {"median_ms": {"encoder": 2.0}})
    real = Row("b", "r", "cpu", "encoder", latency=summarize([1.0, 2.0, 30.0]))
    assert judge(budget, [real], HERE)[0].found_ms == 2.0
