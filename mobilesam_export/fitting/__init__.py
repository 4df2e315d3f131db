"""A recipe that does not hold on some weights -> the same with some layers raised in precision."""

from mobilesam_export.fitting.cases import ranking_cases
from mobilesam_export.fitting.outcome import Fit, Trial, Trials
from mobilesam_export.fitting.problem import Problem
from mobilesam_export.fitting.ranking import compressed_weights
from mobilesam_export.fitting.search import fit

__all__ = ["Fit", "Problem", "Trial", "Trials", "compressed_weights", "fit", "ranking_cases"]
