"""Why simulated episodes failed: what happened is compared with what the expert does from the same start.

It looks after the episode at what no stage may see while it acts: the simulator's objects and the scripted expert. A
failure gets one of a few classes, the numbers that decided, and a picture of the plan beside what happened.
"""

from cascade.failures.examiner import Examiner
from cascade.failures.page import write_failures
from cascade.failures.verdict import Failure
from cascade.failures.witness import Witness

__all__ = ["Examiner", "Failure", "Witness", "write_failures"]
