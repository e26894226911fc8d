"""Claims: a paper's finding as a check on results, with the numbers, their spread, and the test that was used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from eigencode._arguments import check_fields
from eigencode.errors import StudyError
from eigencode.studies.results.statistics import Decision, interval, kleene_and
from eigencode.studies.results.table import NotTestedError, StudyResults

Verdict = Literal["holds", "does not hold", "undecided", "not tested"]


@dataclass(frozen=True)
class Finding:
    """What came out.

    Attributes:
        verdict: "holds", "does not hold", "undecided" (tested, but an interval includes a limit) or "not tested".
        found: The numbers with their spread; for "not tested", what is needed.
        test: The criterion, in words.
    """

    verdict: Verdict
    found: str
    test: str

    def __post_init__(self) -> None:
        """Checks the verdict."""
        check_fields(self, StudyError, choices_only=True)


@dataclass(frozen=True)
class Claim:
    """A paper's finding made checkable.

    Attributes:
        name: Such as J5.
        figure: Figure whose cells are needed.
        statement: What the paper says.
        check: Results -> Finding; raises ``NotTestedError`` where results are missing.
        also: Other figures whose cells it can be checked with.
        window: Whose exponents it needs: of "any" ranks; of the study's "own", since it compares them with numbers that were
            found over these, or needs exponents of which no spectra are kept; or "none".
    """

    name: str
    figure: str
    statement: str
    check: Callable[[StudyResults], Finding]
    also: tuple[str, ...] = ()
    window: Literal["any", "own", "none"] = "any"

    def __post_init__(self) -> None:
        """Checks the window."""
        check_fields(self, StudyError)

    def judged(self, evidence: StudyResults) -> Finding:
        """The finding, or why there is none.

        Raises:
            Exception: whatever a check raises but ``NotTestedError``, with a note that names the claim.
        """
        if evidence.cells.empty:
            return Finding("not tested", f"needs networks of {self.figure}; none is finished here", "")
        if evidence.ranks and self.window == "own":
            return Finding("not tested", "needs exponents over the study's own ranks", "")
        try:
            return self.check(evidence)
        except NotTestedError as missing:
            return Finding("not tested", f"needs {missing}", "")
        except Exception as error:
            error.add_note(f"Raised by the check of claim {self.name}.")
            raise


@dataclass(frozen=True)
class StatedNumber:
    """A number that a paper states, beside which the same quantity is measured.

    Attributes:
        quantity: What it is, and of which networks.
        figure: Figure whose cells are needed.
        low: The number, or the lower end of the range that is stated.
        high: Upper end; None for a single number.
        measure: Results -> values of the quantity, one for each network; raises ``NotTestedError`` where results are missing.
        exponents: Whether it is made of exponents, which are the paper's over the study's own ranks alone.
    """

    quantity: str
    figure: str
    low: float
    high: float | None
    measure: Callable[[StudyResults], pd.Series]
    exponents: bool = False

    @property
    def told(self) -> str:
        """What the paper says."""
        return f"{self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"

    @property
    def not_measured(self) -> dict[str, str]:
        """The paper's number beside nothing."""
        return {
            "quantity": self.quantity,
            "figure": self.figure,
            "paper": self.told,
            "here": "not measured",
            "difference": "",
        }

    def compared(self, evidence: StudyResults) -> dict[str, str]:
        """The paper's number, what came out, and the difference of the mean, from the nearer end of a range."""
        row = self.not_measured
        if evidence.ranks and self.exponents:
            return row | {"here": "of other ranks"}
        try:
            found = interval(self.measure(evidence))
        except NotTestedError:
            return row
        except Exception as error:
            error.add_note(f"Raised by the number stated for {self.figure}: {self.quantity}.")
            raise
        nearest = min(max(found.mean, self.low), self.low if self.high is None else self.high)
        digits = max(3, len(f"{self.low:g}".partition(".")[2]))
        return row | {"here": f"{found.text(digits)}, n = {found.count}", "difference": f"{found.mean - nearest:+.{digits}f}"}


def finding(found: str, test: str, *decisions: Decision, untested: bool = False) -> Finding:
    """Does not hold if anything is not so; is not tested if a part is missing, and undecided if anything cannot be told.

    Args:
        found: The numbers with their spread.
        test: The criterion, in words.
        decisions: What intervals say of the parts that were tested.
        untested: Whether the results of a part are missing.
    """
    decided = kleene_and(*decisions)
    if untested and decided is not False:
        return Finding("not tested", found, test)
    verdict: Verdict = "undecided" if decided is None else "holds" if decided else "does not hold"
    return Finding(verdict, found, test)
