"""What the checks share: how a check ends, what has been observed so far, and the bounds that decide."""

from __future__ import annotations

import hashlib
import json
import sysconfig
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

from acceptance.limits import Limits

# An image that envbuilder did not build may lack them.
LIBRARIES = ("torch", "transformers", "datasets", "packaging", "torchmetrics")


@dataclass
class Answer:
    """What a check found. `bound` is {"min", "max"} or the expected value; `unit` is that of value and bound."""

    value: Any = None
    bound: Any = None
    detail: str = ""
    remedy: str = ""
    unit: str = ""
    findings: Sequence[str] = ()

    def fields(self) -> dict[str, Any]:
        """The fields as an event carries them: `unit` and `findings` only if there are any."""
        fields = asdict(self)
        for name in ("unit", "findings"):
            if not fields[name]:
                del fields[name]
        return fields


@dataclass(frozen=True)
class Check:
    """One check. `needs`: the id of a check whose work this one looks at."""

    id: str
    title: str
    run: Callable[[Inspection], Answer]
    needs: str | None = None

    def result(
        self, status: str, answer: Answer, seconds: float = 0.0
    ) -> dict[str, Any]:
        """The fields of its result event. `status` is passed, failed, error or not_run."""
        return {
            "id": self.id,
            "title": self.title,
            "status": status,
            "seconds": round(seconds, 2),
            **answer.fields(),
        }


class Failure(Exception):
    """A check failed; `answer` says what was found, what it means and what to do."""

    def __init__(
        self, detail: str, *, value: Any = None, bound: Any = None, remedy: str = ""
    ) -> None:
        super().__init__(detail)
        self.answer = Answer(value=value, bound=bound, detail=detail, remedy=remedy)


class OutOfBounds(Failure):
    """A check's number is outside its bound."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.detail)
        self.answer = answer


class Skipped(Exception):
    """This image promises nothing here, and why; `value` is what was observed all the same."""

    def __init__(self, detail: str, value: Any = None) -> None:
        super().__init__(detail)
        self.answer = Answer(value=value, detail=detail)


@dataclass
class Training:
    """A training that runs once for all the checks that look at it. `result`: what they look at besides figures."""

    figures: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    processor_seconds: float = 0.0
    result: Any = None


def ignore(*values: Any, **fields: Any) -> None:
    """Progress and results that nobody listens to."""


def first_facts() -> dict[str, Any]:
    return {"site_packages": sysconfig.get_paths()["purelib"]}


def compiled_wheels(report: Path) -> list[str]:
    """What was compiled in the build of the image, each as `name==version@sha256:…`."""
    wheels = []
    for row in json.loads(report.read_bytes()):
        wheels.append(f"{row['name']}=={row['version']}@sha256:{row['sha256']}")
    return wheels


@dataclass
class Inspection:
    """What the checks share: the lock, bounds.json, and what has been observed so far."""

    limits: Limits
    lock: dict[str, Any] | None = None
    require_gpu: bool = False
    facts: dict[str, Any] = field(default_factory=first_facts)
    training: Training = field(default_factory=Training)  # BERT's fine-tune
    lm: Training = field(default_factory=Training)  # the small causal model
    lora: Training = field(default_factory=Training)  # the adapter on it
    on_progress: Callable[[int, int, str], None] = ignore
    on_result: Callable[..., None] = ignore

    def read_lock(self, file: Path) -> None:
        """Read the image's lock, if it has one, and note what the host compares with its own."""
        if not file.exists():
            return
        content = file.read_bytes()
        lock = json.loads(content)
        sizes = [wheel["size"] for wheel in lock["wheels"]]
        digest = hashlib.sha256(content).hexdigest()
        self.lock = lock
        # 0 is a size that its index does not give: then the sum is not known either.
        self.facts["wheel_bytes"] = sum(sizes) if all(sizes) else 0
        self.facts["lock"] = f"sha256:{digest}"
        report = file.with_name("compiled.json")
        if report.exists():
            self.facts["compiled"] = compiled_wheels(report)

    def locked(self, name: str, seen: Any = None) -> Any:
        """A value of the locked stack; without a lock the check is skipped, and reports what it has `seen`."""
        if self.lock is None:
            raise Skipped("this image has no lock to compare with", seen)
        return self.lock["stack"][name]

    @property
    def flavour(self) -> str | None:
        """What the lock says the image is for: "runtime", "devel" or "cpu"; None without a lock."""
        if self.lock is None:
            return None
        flavour: str = self.lock["stack"].get("flavour", "runtime")
        return flavour

    def require(
        self,
        check_id: str,
        value: Any,
        detail: str = "",
        remedy: str = "",
        *,
        unit: str = "",
        findings: Sequence[str] = (),
    ) -> Answer:
        """The answer of a check that passed; raises `Failure` if `value` is outside its bound in bounds.json.

        `detail` and `remedy` are for a failure alone.
        """
        bound = self.limits.bounds[check_id]
        answer = Answer(value=value, bound=bound, unit=unit, findings=findings)
        if is_within(value, bound):
            return answer
        answer.detail = detail
        answer.remedy = remedy
        raise OutOfBounds(answer)

    def require_if_locked(
        self,
        check_id: str,
        value: Any,
        detail: str = "",
        remedy: str = "",
        *,
        findings: Sequence[str] = (),
    ) -> Answer:
        """As `require`, for what only an image with a lock promises; in any other the value is just observed."""
        if self.lock is not None:
            return self.require(check_id, value, detail, remedy, findings=findings)
        if detail and not is_within(value, self.limits.bounds[check_id]):
            raise Skipped(f"observed: {detail}", value)
        raise Skipped("observed; this image promises nothing", value)


def is_within(value: Any, bound: dict[str, float]) -> bool:
    """Whether a number is inside {"min", "max"}; NaN never is."""
    lowest = bound.get("min", value)
    highest = bound.get("max", value)
    return bool(lowest <= value <= highest)
