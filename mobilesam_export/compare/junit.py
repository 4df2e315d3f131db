"""A comparison as JUnit XML, which CI systems show as tests: failed, skipped or passed."""

import xml.etree.ElementTree as ET

from mobilesam_export.compare.comparison import Comparison
from mobilesam_export.compare.decision import Decision, Verdict
from mobilesam_export.verification.status import Status

ELEMENTS = {Status.PASSED: "", Status.FAILED: "failure", Status.UNVERIFIED: "skipped"}


def junit(comparison: Comparison) -> str:
    """One test suite; inconclusive, not comparable and unverified are skipped, with the reason."""
    suite = ET.Element("testsuite", name=comparison.title)
    for component, decision in comparison.decisions.items():
        _case(suite, "times", component, *_outcome(decision))
    for gate in comparison.gates:
        detail = f"{gate.candidate} against {gate.base}, limit {gate.limit:g} {gate.reason}".strip()
        _case(suite, f"gates.{gate.component}", gate.figure, ELEMENTS[gate.status], detail)
    for attribute, tag in (
        ("tests", "testcase"),
        ("failures", ".//failure"),
        ("skipped", ".//skipped"),
    ):
        cases = suite.findall(tag)
        suite.set(attribute, str(len(cases)))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _outcome(decision: Decision) -> tuple[str, str]:
    figures = (
        f"{decision.verdict}: candidate / base {decision.ratio:.3f}, "
        f"{decision.low:.3f} to {decision.high:.3f}, {decision.pairs} pairs"
    )
    if decision.verdict is Verdict.SLOWER:
        return "failure", figures
    if decision.verdict is Verdict.INCONCLUSIVE:
        return "skipped", f"{figures}; about {decision.more_pairs} more needed"
    if decision.verdict is Verdict.NOT_COMPARABLE:
        return "skipped", decision.reason
    return "", figures


def _case(suite: ET.Element, group: str, name: str, state: str, detail: str) -> None:
    case = ET.SubElement(suite, "testcase", classname=f"mobilesam_export.{group}", name=name)
    if state:
        ET.SubElement(case, state, message=detail)
    else:
        ET.SubElement(case, "system-out").text = detail
