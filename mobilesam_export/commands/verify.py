"""`mobilesam-export verify`: hold a bundle's files to PyTorch again."""

from pathlib import Path

import click

from mobilesam_export.commands.common import (
    BUNDLE,
    FAILED,
    JSON,
    OK,
    print_json,
    print_notes,
    styled,
)
from mobilesam_export.verification.status import Status


@click.command("verify")
@BUNDLE
@click.option("-c", "--checkpoint", help="What it was made of. [default: what it names]")
@click.option(
    "--interpreter",
    is_flag=True,
    help="On a Mac: compare Core ML's answers with the MIL interpreter's, too.",
)
@click.option(
    "--arm",
    is_flag=True,
    help="Also by the runtime's ARM build under emulation, as phones compute; the figures are kept "
    "in the manifest. See `make arm`.",
)
@JSON
def verify_command(
    bundle: Path, checkpoint: str | None, interpreter: bool, arm: bool, as_json: bool
) -> int:
    """Check a bundle's hashes, run its files, and compare them with PyTorch.

    \b
    Example:
      mobilesam-export verify build/onnx-float32
    """
    from mobilesam_export.proof import bundle as proof

    compared = proof.compare_with_interpreter(bundle) if interpreter else None
    report, emulated = proof.verify_bundle(bundle, checkpoint, emulate=arm)
    if as_json:
        other = {} if compared is None else {"against_interpreter": compared.as_dict()}
        if arm:
            other["arm"] = {model: found.as_dict() for model, found in emulated.items()}
        print_json({"bundle": str(bundle), "verification": report.as_dict(), **other})
    else:
        click.echo(f"{bundle}: {styled(report.summary(), report.status)}")
        if compared is not None:
            click.echo(f"  against the interpreter: {styled(compared.summary(), compared.status)}")
        for found in emulated.values():
            click.echo(f"  {styled(found.summary(), found.status)}")
        print_notes(report.note)
    reports = [report, *emulated.values()]
    failed = compared is not None and compared.status is Status.FAILED
    return OK if all(r.status is Status.PASSED for r in reports) and not failed else FAILED
