"""The events of a suite in a container: its JSON lines, one event each, become checks.

The stream is the container's stdout. It is data from inside an image that may be broken: an answer that was not
planned is not believed, and a planned check without an answer is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from envbuilder import grammar
from envbuilder.acceptance import events
from envbuilder.acceptance.check_text import result_row
from envbuilder.acceptance.events import MOST_CHECKS, ProtocolError
from envbuilder.console import Row
from envbuilder.grammar import JsonObject
from envbuilder.model import Check, Status

CUSTOM = (
    "own."  # prefix of the ids of custom checks, each of which may give several answers
)
GPU = "gpu."
CLAIMED = "it claims to have a GPU, but was given none"
_KEPT = 20  # lines that break the protocol


@dataclass(slots=True)
class SuiteEvents:
    """The state of a run. `reserved`: ids that the suite may not answer; `gpu`: whether the container got one."""

    reserved: frozenset[str] = frozenset()
    gpu: bool = True
    titles: dict[str, str] = field(default_factory=dict)
    results: dict[str, Check] = field(default_factory=dict)
    facts: JsonObject = field(default_factory=dict)
    training: JsonObject = field(default_factory=dict)
    lm: JsonObject = field(default_factory=dict)
    verdict: str = ""
    violations: list[str] = field(
        default_factory=list
    )  # lines that break the protocol, each with the reason
    violation_count: int = 0
    running: str = ""
    progress: tuple[int, int, str] = (0, 0, "")
    _planned: frozenset[str] = frozenset()
    _ended: dict[str, Row] = field(
        default_factory=dict
    )  # every event asks for all rows, and these stay as they are

    def feed(self, line: str) -> None:
        """Take one line."""
        if not line.strip():
            return
        try:
            self._take(events.parse(line))
        except ProtocolError as error:
            self.violation_count += 1
            if len(self.violations) < _KEPT:
                self.violations.append(f"{error}: {grammar.one_line(line, 200)}")

    def protocol(self) -> str:
        """What of the output broke the protocol; empty if nothing did."""
        if not self.violations:
            return ""
        return f"{self.violation_count} lines of its output break the protocol; the first: {self.violations[0]}"

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
            case events.LanguageModel():
                self.lm = events.plain(event)
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
        """What the suite says of a check: one answer, and of custom checks also those below it."""
        if not self._is_below_custom(check.id):
            self._check_planned(check.id)
        if check.id in self.results:
            raise ProtocolError("it is a second answer")
        if len(self.results) >= MOST_CHECKS:
            raise ProtocolError(f"it is one answer of more than {MOST_CHECKS}")
        title = self.titles.get(check.id, check.title)
        check = replace(check, title=title)
        if check.id.startswith(GPU) and check.status is Status.PASSED and not self.gpu:
            check = _without_gpu(check)
        self.take(check)

    def _is_below_custom(self, identifier: str) -> bool:
        """Whether it is one of several answers of a custom check."""
        for name in self._planned:
            if name.startswith(CUSTOM) and identifier.startswith(f"{name}."):
                return True
        return False

    def expect(self, titles: Mapping[str, str]) -> None:
        """Further checks, after those of the plan."""
        self.titles |= titles

    def begin(self, identifier: str) -> None:
        self.running, self.progress = identifier, (0, 0, "")

    def take(self, check: Check) -> None:
        """A check's answer; an answer below a custom check is shown after those that were planned."""
        self.titles.setdefault(check.id, check.title)
        self.results[check.id] = check
        self._ended[check.id] = result_row(check)
        if self.running == check.id:
            self.running = ""

    def rows(self) -> list[Row]:
        """As a live display."""
        return [
            self._row(identifier, title) for identifier, title in self.titles.items()
        ]

    def _row(self, identifier: str, title: str) -> Row:
        ended = self._ended.get(identifier)
        if ended:
            return ended
        if identifier == self.running:
            done, total, text = self.progress
            return Row(
                title=title,
                state="running",
                current=done,
                total=total,
                note=text,
            )
        return Row(title=title, state="waiting")

    def checks(self, ending: str) -> list[Check]:
        """Every planned check; one that never answered is an error, explained by how the container ended."""
        checks = []
        for identifier, title in self.titles.items():
            if identifier in self.results:
                checks.append(self.results[identifier])
            else:
                checks.append(_unanswered(identifier, title, ending))
        return checks


def _without_gpu(check: Check) -> Check:
    """A GPU check that passed without a GPU has failed: the image makes up its answers."""
    remedy = "do not rely on anything it says: find out who built this image"
    return replace(check, status=Status.FAILED, detail=CLAIMED, remedy=remedy)


def _unanswered(identifier: str, title: str, ending: str) -> Check:
    return Check(
        id=identifier,
        title=title,
        status=Status.ERROR,
        detail=f"no answer: {ending}" if ending else "no answer",
        remedy="run it again; if it persists, look inside: `docker run -it IMAGE bash`",
    )


def ending_text(code: int, *, out_of_memory: bool, errors: Sequence[str]) -> str:
    """How the container ended; empty if as it should (docs.docker.com/engine/containers/run, exit status)."""
    if out_of_memory:
        return "the container ran out of memory and was killed"
    if code in _USUAL_ENDINGS:
        return ""
    if code in _DEATHS:
        return _DEATHS[code]
    text = _NOT_STARTED.get(code, f"the suite ended with exit code {code}")
    if errors:
        return f"{text}: {grammar.one_line(errors[-1], 200)}"
    return text


_USUAL_ENDINGS = (0, 7)  # accepted, not accepted
_DEATHS = {
    135: "the suite died of SIGBUS: /dev/shm is too small",
    137: "the suite was killed",
}
_NOT_STARTED = {
    126: "the suite cannot be executed",
    127: "the suite is not in this image",
}
