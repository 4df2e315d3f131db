"""How near a rectangle is to the square that the model was trained on, for its report."""

from dataclasses import replace
from typing import TYPE_CHECKING

from mobilesam_export.contract import Contract, plain_contract
from mobilesam_export.contract.frame import square
from mobilesam_export.progress import note, step
from mobilesam_export.verification import square as agreements
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.model import Sam


def beside_square(report: Report, sam: "Sam", contract: Contract) -> Report:
    """The report, for files of a rectangle with PyTorch's masks there beside the square's.

    Args:
        report: of the files; as it is where nothing was run.
        sam: in float32, on the rectangle.
        contract: of the files.
    """
    if contract.frame is None or report.status is Status.UNVERIFIED:
        return report
    from mobilesam_export.backends import reference
    from mobilesam_export.model import build_sam

    with step("Comparing the rectangle with the square"):
        whole = build_sam(sam.state_dict(), square(contract.image_size))
        found = agreements.agreement(
            reference.load(whole, plain_contract(contract.image_size, contract.points)),
            reference.load(sam, contract),
            agreements.scenes(contract.frame),
        )
    if not found.good:
        note(
            f"masks of {contract.size} agree with the square's to {found.click:.3f} by click and "
            f"{found.box:.3f} by box only; a --margin over {contract.frame.margin} may be nearer"
        )
    return replace(report, square=found)
