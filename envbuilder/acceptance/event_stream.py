"""Following the suite inside a container: its JSON lines, one event each, become checks.

The stream is the container's stdout. What the suite answers is data from inside an image that may be broken: nothing
is believed that was not planned, and what was planned and never answered is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from envbuilder import grammar
from envbuilder.acceptance import events
from envbuilder.acceptance.events import MOST_CHECKS, ProtocolError
from envbuilder.console import Row, size_text
from envbuilder.model import Check, Status

OWN = "own."  # what the ids of the user's checks begin with: each may give several answers
GPU = "gpu."
CLAIMED = "it claims a GPU that it was not given"
_KEPT = 20  # lines that break the protocol


@dataclass(slots=True)
class Watch:
    """What has been heard so far. `reserved`: ids that are not the suite's to answer; `gpu`: whether it got one."""

    reserved: frozenset[str] = frozenset()
    gpu: bool = True
    titles: dict[str, str] = field(default_factory=dict)
    results: dict[str, Check] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = ""
    strange: list[str] = field(default_factory=list)  # lines that break the protocol, each with the reason
    strange_lines: int = 0  # how many there were
    running: str = ""
    progress: tuple[int, int, str] = (0, 0, "")
    _planned: frozenset[str] = frozenset()

    def feed(self, line: str) -> None:
        """Take one line."""
        if not line.strip():
            return
        try:
            self._take(events.parse(line))
        except ProtocolError as error:
            self.strange_lines += 1
            if len(self.strange) < _KEPT:
                self.strange.append(f"{error}: {grammar.one_line(line, 200)}")

    def protocol(self) -> str:
        """What of the output broke the protocol; empty if nothing did."""
        if not self.strange:
            return ""
        return f"{self.strange_lines} lines of its output break the protocol; the first: {self.strange[0]}"

    def _take(self, event: events.AnyEvent) -> None:
        if self.verdict:
            raise ProtocolError("it comes after the end")
        if isinstance(event, events.Plan):
            self._plan(event)
            return
        if not self._planned:
            raise ProtocolError("it comes before the plan")
        match event:
            case events.Start():
                self._check_planned(event.id)
                self.begin(event.id)
            case events.Progress():
                self.progress = (event.done, event.total, event.text)
            case events.Result():
                self._answer(events.check_of(event))
            case events.Facts():
                self.facts = events.plain(event)
            case events.Training():
                self.training = events.plain(event)
            case events.End():
                self.verdict = event.verdict

    def _plan(self, plan: events.Plan) -> None:
        titles = {check.id: check.title for check in plan.checks}
        if self._planned:
            raise ProtocolError("it is a second plan")
        if not titles or len(titles) < len(plan.checks):
            raise ProtocolError("it plans nothing, or a check twice")
        if self.reserved & titles.keys():
            raise ProtocolError("it plans a check that is not the suite's to make")
        self.titles, self._planned = titles, frozenset(titles)

    def _check_planned(self, identifier: str) -> None:
        if identifier not in self._planned:
            raise ProtocolError("this check was not planned")

    def _answer(self, check: Check) -> None:
        """What the suite says of a check: one answer, and of the user's own checks also those below it."""
        if not self._is_below_own(check.id):
            self._check_planned(check.id)
        if check.id in self.results:
            raise ProtocolError("it is a second answer")
        if len(self.results) >= MOST_CHECKS:
            raise ProtocolError(f"it is one answer of more than {MOST_CHECKS}")
        title = self.titles.get(check.id, check.title)
        if check.id.startswith(GPU) and check.status is Status.PASSED and not self.gpu:
            remedy = "nothing it says can be relied on: find out who built this image"
            check = replace(check, status=Status.FAILED, detail=CLAIMED, remedy=remedy)
        self.take(replace(check, title=title))

    def _is_below_own(self, identifier: str) -> bool:
        """Whether it is one of several answers of a check of the user's own."""
        parents = [f"{name}." for name in self._planned if name.startswith(OWN)]
        return identifier.startswith(tuple(parents))

    def expect(self, titles: Mapping[str, str]) -> None:
        """Further checks, after those of the plan."""
        self.titles |= titles

    def begin(self, identifier: str) -> None:
        self.running, self.progress = identifier, (0, 0, "")

    def take(self, check: Check) -> None:
        """A check's answer; an answer below a check of the user's own is shown after those that were planned."""
        self.titles.setdefault(check.id, check.title)
        self.results[check.id] = check
        self.running = "" if self.running == check.id else self.running

    def rows(self) -> list[Row]:
        """As a live display."""
        return [self._row(identifier, title) for identifier, title in self.titles.items()]

    def _row(self, identifier: str, title: str) -> Row:
        check = self.results.get(identifier)
        if check:
            return result_row(check)
        if identifier == self.running:
            done, total, text = self.progress
            return Row(title=title, state="running", current=done, total=total, note=text)
        return Row(title=title, state="waiting")

    def checks(self, ending: str) -> list[Check]:
        """Every planned check; one that never answered is an error, explained by how the container ended."""
        return [
            self.results.get(identifier)
            or Check(
                id=identifier,
                title=title,
                status=Status.ERROR,
                detail=f"no answer: {ending}" if ending else "no answer",
                remedy="run it again; if it stays so, look inside: `docker run -it IMAGE bash`",
            )
            for identifier, title in self.titles.items()
        ]


_HUGE = 1e300  # beyond it, an int is no float

_STATES = {
    Status.PASSED: "done",
    Status.FAILED: "failed",
    Status.ERROR: "error",
    Status.NOT_RUN: "not run",
}


def result_row(check: Check) -> Row:
    """One finished check as a line for a person."""
    found = f"{len(check.findings)} warnings" if check.findings else ""
    note = check.detail if check.status is not Status.PASSED else found
    return Row(
        title=check.title,
        state=_STATES[check.status],
        seconds=check.seconds or None,
        note=" · ".join(part for part in (number_text(check), note) if part),
    )


def number_text(check: Check) -> str:
    """`0.996 (at least 0.95)`."""
    if check.value is None or isinstance(check.value, Mapping | list):
        return ""
    value, bound = with_unit(check.value, check.unit), check.bound
    if isinstance(bound, Mapping):
        words = [f"at least {with_unit(bound['min'], check.unit)}"] if "min" in bound else []
        words += [f"at most {with_unit(bound['max'], check.unit)}"] if "max" in bound else []
        return f"{value} ({', '.join(words)})" if words else value
    return value if bound is None or bound == check.value else f"{value} (expected {bound})"


def ending_text(code: int, *, out_of_memory: bool, errors: Sequence[str]) -> str:
    """How the container ended, in words; empty if as it should (docs.docker.com/engine/containers/run, exit status)."""
    if out_of_memory:
        return "the container ran out of memory and was killed"
    last = f": {grammar.one_line(errors[-1], 200)}" if errors else ""
    known = {0: "", 7: "", 135: "the suite died of SIGBUS: /dev/shm is too small", 137: "the suite was killed"}
    known |= {126: f"the suite cannot be executed{last}", 127: f"the suite is not in this image{last}"}
    return known.get(code, f"the suite ended with exit code {code}{last}")


def with_unit(value: object, unit: str) -> str:
    """`75.21 GB`, `8 s`, `0.9961`."""
    if unit == "B" and isinstance(value, int | float) and abs(value) < _HUGE:
        return size_text(value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text
