"""Following the suite inside a container: its JSON lines, one event each, become checks.

The stream is the container's stdout. What the suite answers is data from inside an image that may be broken: nothing
is believed that was not planned, and what was planned and never answered is an error.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from envbuilder.console import Row
from envbuilder.model import Check, Status


@dataclass(slots=True)
class Watch:
    """What has been heard so far."""

    titles: dict[str, str] = field(default_factory=dict)
    results: dict[str, Check] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    strange: list[str] = field(default_factory=list)  # lines that are no event
    running: str = ""
    progress: tuple[int, int, str] = (0, 0, "")

    def feed(self, line: str) -> None:
        """Take one line."""
        try:
            event = _clean(json.loads(line))
            self._take(event["event"], event)
        except (ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError):
            if line.strip():
                self.strange.append(line.strip()[:200])

    def _take(self, kind: str, event: Mapping[str, Any]) -> None:
        match kind:
            case "plan":
                self.titles = {item["id"]: item["title"] for item in event["checks"]}
            case "start":
                self.begin(event["id"])
            case "progress":
                self.progress = (int(event["done"]), int(event["total"]), str(event.get("text", "")))
            case "result":
                self.take(msgspec.convert({k: v for k, v in event.items() if k != "event"}, Check))
            case "facts":
                self.facts = {k: v for k, v in event.items() if k != "event"}
            case "training":
                self.training = {k: v for k, v in event.items() if k != "event"}
            case "end":
                self.verdict = event["verdict"]
            case _:
                raise KeyError(kind)

    def expect(self, titles: Mapping[str, str]) -> None:
        """Further checks, after those of the plan."""
        self.titles |= titles

    def begin(self, identifier: str) -> None:
        self.running, self.progress = identifier, (0, 0, "")

    def take(self, check: Check) -> None:
        """A check's answer; one that was not planned is shown after those that were."""
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


def _clean(value: Any) -> Any:
    """What JSON cannot carry on: half a surrogate pair becomes `?`, NaN and infinity become words."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


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
    last = f": {errors[-1].strip()[:200]}" if errors else ""
    known = {0: "", 7: "", 135: "the suite died of SIGBUS: /dev/shm is too small", 137: "the suite was killed"}
    known |= {126: f"the suite cannot be executed{last}", 127: f"the suite is not in this image{last}"}
    return known.get(code, f"the suite ended with exit code {code}{last}")


def with_unit(value: object, unit: str) -> str:
    """`75.2 GB`, `8 s`, `0.9961`."""
    if unit == "B" and isinstance(value, int | float) and abs(value) < _HUGE:
        scale, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if value >= pair[0]), (1, "B"))
        return f"{value / scale:.3g} {name}"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text
