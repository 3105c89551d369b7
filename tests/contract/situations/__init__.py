"""The situations in which an operation is called with valid data, and the status that each must get.

A situation takes the case that Schemathesis made, gives it the one who speaks and whatever must be real, and leaves the
rest as it was made. Blind data never meets a right code; here every operation has somebody for whom it works.
"""

from tests.contract.situations import beginning, confirming, removing, verifying
from tests.contract.situations.situation import SITUATIONS, Case, Situation

__all__ = ["SITUATIONS", "Case", "Situation", "beginning", "confirming", "removing", "verifying"]
