"""The events that the suite prints in a container, one JSON object a line, as frozen records: a closed grammar.

An image can print anything. `parse` returns a record with valid ids, numbers and texts, or raises `ProtocolError` with
the reason; each text is one printable line. Which event may follow which is checked in `event_stream`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from envbuilder import grammar
from envbuilder.grammar import CheckId, Count, Digest, JsonObject, Prose, Size
from envbuilder.model import Check, Receipt, Status, Verdict

MOST_CHECKS = 1000  # in a plan, and answers in all
MOST_FINDINGS = 1000  # of one check
MOST_ITEMS = 200_000  # values in one event: the losses of a long training
MOST_LEVELS = 12  # lists in lists
LARGEST = 1 << 62  # of a whole number
LARGEST_FLOAT = 1e300  # beyond it arithmetic overflows

Number = Annotated[float, msgspec.Meta(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Names = Annotated[list[Prose], msgspec.Meta(max_length=MOST_CHECKS)]


class ProtocolError(Exception):
    """A line is no event of the suite; the message is the reason."""


class Event(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="event", tag=str.lower
):  # fmt: skip
    """One line of the suite's output."""


class Planned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A check that will be made."""

    id: CheckId
    title: Prose


class Plan(Event, frozen=True, kw_only=True):
    """The first event: every check, in order."""

    suite: Prose = ""
    checks: Annotated[list[Planned], msgspec.Meta(max_length=MOST_CHECKS)]


class Start(Event, frozen=True, kw_only=True):
    """A check begins."""

    id: CheckId


class Progress(Event, frozen=True, kw_only=True):
    """How far the running check is."""

    id: CheckId = ""
    done: Count
    total: Count
    text: Prose = ""


class Result(Event, frozen=True, kw_only=True):
    """The result of a check."""

    id: CheckId
    title: Prose
    status: Status
    value: Any = None
    bound: Any = None
    detail: Prose = ""
    remedy: Prose = ""
    unit: Prose = ""
    seconds: Seconds = 0.0
    findings: Annotated[tuple[Prose, ...], msgspec.Meta(max_length=MOST_FINDINGS)] = ()


class Facts(Event, frozen=True, kw_only=True):
    """What the suite read in the image."""

    site_packages: Prose | UnsetType = UNSET
    python: Prose | UnsetType | None = UNSET
    os: Prose | UnsetType | None = UNSET
    torch: Prose | UnsetType | None = UNSET
    torchvision: Prose | UnsetType | None = UNSET
    torchaudio: Prose | UnsetType | None = UNSET
    cuda: Prose | UnsetType | None = UNSET
    cudnn: Prose | UnsetType | None = UNSET
    nccl: Prose | UnsetType | None = UNSET
    arch_list: Names | UnsetType | None = UNSET
    lock: Digest | UnsetType = UNSET
    wheel_bytes: Size | UnsetType = UNSET
    gpus: Names | UnsetType = UNSET
    capability: Prose | UnsetType = UNSET
    compiled: Names | UnsetType = UNSET  # name==version@sha256:… of each wheel


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of held-out reviews that are classified correctly after one epoch."""

    epoch: Count
    accuracy: Number | None = None
    negated: Number | None = None


class Training(Event, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The figures of the fine-tune, as the image's own job prints them.

    Another version may print more: unknown fields are left out.
    """

    accuracy: Number | UnsetType | None = UNSET
    negated: Number | UnsetType | None = UNSET
    loss: Number | UnsetType | None = UNSET
    losses: (
        Annotated[list[Number | None], msgspec.Meta(max_length=MOST_ITEMS)] | UnsetType
    ) = UNSET
    epochs: Annotated[list[Epoch], msgspec.Meta(max_length=MOST_CHECKS)] | UnsetType = (
        UNSET
    )
    steps: Count | UnsetType = UNSET
    seconds: Seconds | UnsetType | None = UNSET
    samples_per_second: Number | UnsetType | None = UNSET
    peak_memory_bytes: Size | UnsetType | None = UNSET
    tokens: Count | UnsetType = UNSET
    parameters: Count | UnsetType = UNSET
    device: Prose | UnsetType = UNSET
    processes: Count | UnsetType = UNSET
    seed: Count | UnsetType = UNSET


class LanguageModel(Event, frozen=True, kw_only=True, tag="lm"):
    """The figures of the small causal model, and of the adapter on it."""

    architecture: Prose | UnsetType = UNSET
    device: Prose | UnsetType = UNSET
    parameters: Count | UnsetType = UNSET
    accuracy: Number | UnsetType | None = UNSET
    loss: Number | UnsetType | None = UNSET
    losses: (
        Annotated[list[Number | None], msgspec.Meta(max_length=MOST_ITEMS)] | UnsetType
    ) = UNSET
    steps: Count | UnsetType = UNSET
    seconds: Seconds | UnsetType | None = UNSET
    lora_accuracy: Number | UnsetType | None = UNSET
    lora_loss: Number | UnsetType | None = UNSET
    lora_losses: (
        Annotated[list[Number | None], msgspec.Meta(max_length=MOST_ITEMS)] | UnsetType
    ) = UNSET
    lora_parameters: Count | UnsetType = UNSET
    lora_steps: Count | UnsetType = UNSET
    lora_seconds: Seconds | UnsetType | None = UNSET


class End(Event, frozen=True, kw_only=True):
    """The last event."""

    verdict: Verdict


AnyEvent = Plan | Start | Progress | Result | Facts | Training | LanguageModel | End


def parse(line: str) -> AnyEvent:
    """A line as an event. Raises `ProtocolError`."""
    try:
        document = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError("it is not JSON, or has invalid numbers") from error
    event: AnyEvent = _convert(_bounded(document), AnyEvent)
    return event


def check_of(result: Result) -> Check:
    """The check of a result, with the same fields."""
    return Check(**{name: getattr(result, name) for name in result.__struct_fields__})


def plain(event: Facts | Training | LanguageModel) -> JsonObject:
    """The fields that were printed, as a receipt keeps them."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    del fields["event"]
    return fields


def fitting(receipt: Receipt) -> Receipt:
    """A receipt that was read from a file, if it is one that events can make. Raises `ProtocolError` if not.

    A receipt of this envbuilder passes; one that somebody else wrote can hold anything.
    """
    checks = []
    for check in receipt.checks:
        result = _as_event(msgspec.to_builtins(check), "result", Result)
        checks.append(msgspec.to_builtins(check_of(result)))
    facts = _as_event(receipt.facts, "facts", Facts)
    training = _as_event(receipt.training, "training", Training)
    lm = _as_event(receipt.lm, "lm", LanguageModel)
    has_stack = grammar.matches(grammar.StackName, receipt.stack)
    document = msgspec.to_builtins(receipt) | {
        "checks": checks,
        "facts": plain(facts),
        "training": plain(training),
        "lm": plain(lm),
        "stack": receipt.stack if has_stack else "",
    }
    return msgspec.convert(_bounded(document), Receipt)


def _as_event(fields: JsonObject, tag: str, kind: Any) -> Any:
    """The fields of an event, checked as if the suite had printed them."""
    return _convert({**_bounded(fields), "event": tag}, kind)


def clean(check: Check) -> Check:
    """A check of the host, some text of which may come from the image: its last line, a path, a label."""
    return msgspec.convert(_bounded(msgspec.to_builtins(check)), Check)


def _convert(document: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(grammar.explained(str(error))) from error


def _bounded(value: Any) -> Any:
    """The value with each text as one printable line. Raises `ProtocolError` if it is too deep, long or large."""
    return _Bounds().apply(value, 0)


class _Bounds:
    """Counts the values of one document."""

    def __init__(self) -> None:
        self.values = 0

    def apply(self, value: Any, level: int) -> Any:
        self.values += 1
        if level > MOST_LEVELS or self.values > MOST_ITEMS:
            raise ProtocolError("it has too many levels or values")
        if isinstance(value, str):
            return grammar.one_line(value)
        if isinstance(value, Mapping):
            return self._apply_to_fields(value, level + 1)
        if isinstance(value, list | tuple):
            return [self.apply(item, level + 1) for item in value]
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ProtocolError("a number is too large")
        # Written so that NaN, which compares with nothing, is refused too.
        if isinstance(value, float) and not abs(value) <= LARGEST_FLOAT:
            raise ProtocolError("a number is too large, or not a number")
        return value

    def _apply_to_fields(self, fields: Mapping[Any, Any], level: int) -> dict[str, Any]:
        cleaned = {}
        for key, item in fields.items():
            name = grammar.one_line(str(key))
            cleaned[name] = self.apply(item, level)
        return cleaned
