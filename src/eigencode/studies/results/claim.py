"""Claims: a paper's finding as a check on results, with the numbers, their spread, and the test that was used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd

from eigencode._arguments import check_fields
from eigencode.errors import StudyError
from eigencode.studies.results.statistics import Decision, Limits, interval, kleene_and, level
from eigencode.studies.results.table import NotTestedError, StudyResults

Verdict = Literal["does not hold", "not tested", "undecided", "holds"]
"""From the weakest to the strongest."""


HOW_JUDGED = (
    "Brackets are 95 % intervals, Student's over networks where the criterion names no other; differences are paired where seeds "
    "are. A part holds if all intervals lie within their limits, and does not hold if one lies beyond its limit at a level that "
    "holds for all intervals of the part together (Bonferroni). It is undecided where an interval includes a limit, or has no "
    "width because there are fewer than six networks and all have the same value; or where two ways of doing what the paper "
    "leaves open give different verdicts. A claim has the verdict of its weakest part. Limits that are not in the paper's words "
    "are ours."
)
"""What verdicts mean, for the pages that show them."""


@dataclass(frozen=True)
class Finding:
    """What came out.

    Attributes:
        verdict: "holds", "does not hold", "undecided" (tested, but an interval includes a limit) or "not tested".
        found: The number that decides with its interval; for "not tested", what is needed.
        test: The criterion, in words.
        networks: Of an undecided finding, about how many networks would decide it, if their mean and spread stay what they are.
    """

    verdict: Verdict
    found: str
    test: str
    networks: int | None = None

    def __post_init__(self) -> None:
        """Checks the verdict and the number."""
        check_fields(self, StudyError)

    def of_a_substitute(self, papers: str, here: str) -> Finding:
        """The same, where something stood in for what the paper used: that does not test the paper's claim.

        Args:
            papers: What the paper used.
            here: What was used in its place.
        """
        if self.verdict == "not tested":
            return self
        return Finding("not tested", f"not tested on {papers}; on {here}: {self.found} ({self.verdict} there)", self.test)


@dataclass(frozen=True)
class Part:
    """One sentence of a claim that can be judged by itself.

    Attributes:
        says: What the paper says: its words, at most a sentence, and their place.
        check: Results -> Finding; raises ``NotTestedError`` where results are missing.
        name: A letter; none where it is the whole claim.
    """

    says: str
    check: Callable[[StudyResults], Finding]
    name: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with what came out for each of its parts.

    Attributes:
        claim: The claim.
        findings: Of each part.
    """

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """That of the weakest part."""
        return min((each.verdict for each in self.findings), key=get_args(Verdict).index)

    def as_dict(self) -> dict[str, Any]:
        """JSON values.

        Returns:
            Keys claim, figure, figures (and others whose cells it can be judged on), statement, verdict, weakest (names of the
            parts that decide it), parts.
        """
        parts = [
            {"part": self.claim.name + part.name, "says": part.says, **vars(finding)}
            for part, finding in zip(self.claim.parts, self.findings, strict=True)
        ]
        weakest = [str(row["part"]) for row in parts if row["verdict"] == self.verdict]
        return {
            "claim": self.claim.name,
            "figure": self.claim.figure,
            "figures": [self.claim.figure, *self.claim.also],
            "statement": self.claim.statement,
            "verdict": self.verdict,
            "weakest": ", ".join(weakest),
            "parts": parts,
        }


@dataclass(frozen=True)
class Claim:
    """A paper's finding made checkable.

    Attributes:
        name: Such as J5.
        figure: Figure whose cells are needed.
        statement: What the paper says, in a few words.
        parts: Its sentences, each with a check.
        also: Other figures whose cells it can be checked with.
        window: Whose exponents it needs: of "any" ranks; of the study's "own", since it compares them with numbers that were
            found over these, or needs exponents of which no spectra are kept; or "none".
    """

    name: str
    figure: str
    statement: str
    parts: tuple[Part, ...]
    also: tuple[str, ...] = ()
    window: Literal["any", "own", "none"] = "any"

    def __post_init__(self) -> None:
        """Checks the window, and that there is something to judge."""
        check_fields(self, StudyError)
        if not self.parts:
            raise StudyError(f"claim {self.name} has no parts. Give it one at least, with a check.")

    def judged(self, evidence: StudyResults) -> Judged:
        """What came out for each part, or why nothing did.

        Raises:
            Exception: whatever a check raises but ``NotTestedError``, with a note that names the claim.
        """
        return Judged(self, tuple(self._finding(part, evidence) for part in self.parts))

    def not_tested(self, why: str) -> Judged:
        """Nothing can be told of any part, and why."""
        return Judged(self, tuple(Finding("not tested", why, "") for _ in self.parts))

    def _finding(self, part: Part, evidence: StudyResults) -> Finding:
        if evidence.cells.empty:
            return Finding("not tested", f"needs networks of {self.figure}; none is finished here", "")
        if evidence.ranks and self.window == "own":
            return Finding("not tested", "needs exponents over the study's own ranks", "")
        try:
            return part.check(evidence)
        except NotTestedError as missing:
            return Finding("not tested", f"needs {missing}", "")
        except Exception as error:
            error.add_note(f"Raised by the check of claim {self.name}{part.name}.")
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
        images: Of an accuracy, the number of test images, whose choice its interval contains.
    """

    quantity: str
    figure: str
    low: float
    high: float | None
    measure: Callable[[StudyResults], pd.Series]
    exponents: bool = False
    images: int | None = None

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
            values = self.measure(evidence)
            found = level(values, self.images) if self.images else interval(values)
        except NotTestedError:
            return row
        except Exception as error:
            error.add_note(f"Raised by the number stated for {self.figure}: {self.quantity}.")
            raise
        nearest = min(max(found.mean, self.low), self.low if self.high is None else self.high)
        digits = max(3, len(f"{self.low:g}".partition(".")[2]))
        return row | {"here": f"{found.text(digits)}, n = {found.count}", "difference": f"{found.mean - nearest:+.{digits}f}"}


def finding(found: str, test: str, *limits: Limits | Decision) -> Finding:
    """Holds if every interval lies within its limits, and does not hold if any lies beyond one; else it is undecided.

    That all lie within their limits is told at the level of each interval, which is enough for all together. That any lies
    beyond is told by wider ones, which hold together at that level (Bonferroni).

    Args:
        found: The number that decides with its interval.
        test: The criterion, in words.
        limits: Intervals with the limits between which the paper puts them, or what else was decided.
    """
    family = sum(isinstance(each, Limits) for each in limits)
    decided = kleene_and(*(each.decided(family) if isinstance(each, Limits) else each for each in limits))
    verdict: Verdict = "undecided" if decided is None else "holds" if decided else "does not hold"
    test = f"{test}; {family} intervals, level 5 % for all together" if family > 1 else test
    return Finding(verdict, found, test, _networks_needed(limits) if decided is None else None)


def agreed(readings: Sequence[Finding], whatever: str) -> Finding:
    """What comes out in every way of doing what the paper leaves open; undecided where ways give different verdicts.

    Args:
        readings: What came out in each way.
        whatever: What is left open, in words.
    """
    verdicts = {each.verdict for each in readings}
    verdict: Verdict = readings[0].verdict if len(verdicts) == 1 else "undecided"
    criterion, semicolon, level = readings[0].test.partition("; ")
    needed = [each.networks for each in readings if each.verdict == "undecided"] if "does not hold" not in verdicts else []
    return Finding(
        verdict,
        "; ".join(each.found for each in readings),
        f"{criterion}, whatever {whatever}{semicolon}{level}",
        max(filter(None, needed)) if needed and None not in needed else None,
    )


def _networks_needed(limits: Sequence[Limits | Decision]) -> int | None:
    """About how many networks would decide all that is open; None where that cannot be told."""
    family = sum(isinstance(each, Limits) for each in limits)
    needed = [each.values_needed() for each in limits if isinstance(each, Limits) and each.decided(family) is None]
    known = [number for number in needed if number is not None]
    return max(known) if known and len(known) == len(needed) else None
