"""The conformance kit: what a solver claims, measured; for ours and for anyone's. Needs no pytest."""

from .conformance import Claim, check_solver, claims, report
from .report import Report, Row

__all__ = ["Claim", "Report", "Row", "check_solver", "claims", "report"]
