"""What is known about a file, a limit or a gate: one of three states."""

from enum import StrEnum


class Status(StrEnum):
    """Outcome of a check; only what was run or measured can pass or fail."""

    PASSED = "passed"
    FAILED = "failed"
    UNVERIFIED = "unverified"

    @property
    def verdict(self) -> str:
        """The word under "verdict" in the JSON of `benchmark` and `compare`, which scripts read."""
        return {Status.PASSED: "pass", Status.FAILED: "fail"}.get(self, self.value)
