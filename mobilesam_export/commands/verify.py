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

COMPARED = {  # by key of the JSON, for people
    "against_interpreter": "against the interpreter",
    "against_coreai": "against Core AI",
}


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
@click.option(
    "--coreai",
    is_flag=True,
    help="Core ML files in float32 or float16: compare their answers with those of Core AI, "
    "Apple's runtime that runs on Linux, too, on the same graphs and weights.",
)
@JSON
def verify_command(
    bundle: Path, checkpoint: str | None, interpreter: bool, arm: bool, coreai: bool, as_json: bool
) -> int:
    """Check BUNDLE's hashes, and its files against PyTorch.

    \b
    Example:
      mobilesam-export verify build/onnx-float32
    """
    from mobilesam_export.proof import bundle as proof
    from mobilesam_export.proof import peer

    compared = {}
    if interpreter:
        compared["against_interpreter"] = proof.compare_with_interpreter(bundle)
    if coreai:
        compared["against_coreai"] = peer.compare_with_peer(bundle, checkpoint)
    report, emulated = proof.verify_bundle(bundle, checkpoint, emulate=arm)
    if as_json:
        other: dict[str, object] = {key: found.as_dict() for key, found in compared.items()}
        if arm:
            other["arm"] = {model: found.as_dict() for model, found in emulated.items()}
        print_json({"bundle": str(bundle), "verification": report.as_dict(), **other})
    else:
        click.echo(f"{bundle}: {styled(report.summary(), report.status)}")
        for key, found in compared.items():
            click.echo(f"  {COMPARED[key]}: {styled(found.summary(), found.status)}")
        for found in emulated.values():
            click.echo(f"  {styled(found.summary(), found.status)}")
        print_notes(report.note)
    reports = [report, *emulated.values()]
    failed = any(found.status is Status.FAILED for found in compared.values())
    return OK if all(r.status is Status.PASSED for r in reports) and not failed else FAILED
