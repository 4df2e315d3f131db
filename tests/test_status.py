"""One word for what is known, in its color."""

import pytest

from mobilesam_export.commands.common import styled
from mobilesam_export.verification.status import Status

GREEN, RED, YELLOW = "\x1b[32m", "\x1b[31m", "\x1b[33m"


@pytest.mark.parametrize(
    ("status", "color"),
    [(Status.PASSED, GREEN), (Status.FAILED, RED), (Status.UNVERIFIED, YELLOW)],
)
@pytest.mark.parametrize("text", ["verified", "FAILED", "unverified: why"])
def test_the_status_gives_the_color_whatever_the_text_says(
    text: str, status: Status, color: str
) -> None:
    assert styled(text, status).startswith(f"{color}{text}")
