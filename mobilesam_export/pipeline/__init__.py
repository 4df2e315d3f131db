"""An export from the job to the bundle: `run.py` is the whole way, read it first."""

from mobilesam_export.pipeline.jobs import Job, Plan, check
from mobilesam_export.pipeline.run import Outcome, export

__all__ = ["Job", "Outcome", "Plan", "check", "export"]
