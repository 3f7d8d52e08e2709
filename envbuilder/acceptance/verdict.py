"""The verdict. Pure: it believes no `passed` it cannot derive from the checks themselves."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from envbuilder.console import size_text
from envbuilder.grammar import JsonObject
from envbuilder.model import Check, Status, Verdict

_LABEL_FACTS = (  # label → key of the facts that the suite reads inside
    ("dev.envbuilder.python", "python"),
    ("dev.envbuilder.torch", "torch"),
    ("dev.envbuilder.torchvision", "torchvision"),
    ("dev.envbuilder.torchaudio", "torchaudio"),
    ("dev.envbuilder.cuda", "cuda"),
    ("dev.envbuilder.cudnn", "cudnn"),
    ("dev.envbuilder.nccl", "nccl"),
    ("dev.envbuilder.arch-list", "arch_list"),
    ("dev.envbuilder.os", "os"),
    ("dev.envbuilder.lock", "lock"),
)
_ANY_OS = "custom"
COMPLETE = "suite.complete"
_MOST_PROBLEMS = 5  # in one line


def check_labels(
    labels: Mapping[str, str], facts: JsonObject, *, ours: bool = True
) -> Check:
    """Whether the labels say what the suite read inside."""
    check = partial(Check, id="identity.labels", title="labels say what is inside")
    if not ours:
        detail = "this image was not built by envbuilder: its labels are its own"
        return check(status=Status.NOT_RUN, value=len(labels), detail=detail)
    if not facts:
        return check(
            status=Status.ERROR,
            detail="nothing was read inside to compare the labels with",
        )
    problems: list[str] = []
    for label, key in _LABEL_FACTS:
        problems += _label_problems(label, labels.get(label), facts.get(key))
    if not problems:
        return check(status=Status.PASSED, value=0, bound={"max": 0})
    return check(
        status=Status.FAILED,
        value=len(problems),
        bound={"max": 0},
        detail="; ".join(problems),
        remedy="render the context and build it again: `envbuilder build`",
    )


def _label_problems(label: str, value: str | None, fact: Any) -> Iterable[str]:
    if value is None:
        yield f"the label {label} is missing"
        return
    if fact is None and label.endswith(".lock"):
        yield "there is no lock inside to compare the labels with"
        return
    # The stack promises nothing here, or it cannot be read here.
    promises_nothing = value in ("", _ANY_OS)
    if fact is None or promises_nothing:
        return
    text = " ".join(fact) if isinstance(fact, list) else str(fact)
    # torch reports CUDA as 11.7 and cuDNN as 8.5.0, which are the beginnings of what was locked
    if value != text and not value.startswith(f"{text}."):
        yield f"{label} says {value}; inside is {text}"


_OCI = tuple(
    f"org.opencontainers.image.{name}" for name in ("title", "description", "base.name")
)
SECRET = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{32,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|https?://[^/\s:@]+:[^/\s@]+@"
    r"|(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY)=[^\s$\"']{4,}",
)


def check_layers(
    labels: Mapping[str, str],
    env: Sequence[str],
    history: Sequence[str],
    files: Sequence[str],
    *,
    ours: bool = True,
) -> Check:
    """Whether a secret can be read in the image; `files` are those with one, in whichever layer."""
    title = "no secret is in a layer, a label, the environment or the history"
    check = partial(Check, id="contract.layers", title=title)
    problems = []
    for place in _places_of_secrets(labels, env, history):
        problems.append(f"a secret is in {place}")
    for path in files:
        problems.append(f"a secret is in the layers, as {path}")
    if ours:
        missing = [name for name in _OCI if not labels.get(name)]
        problems += [f"the label {name} is missing" for name in missing]
    if not problems:
        return check(status=Status.PASSED, value=0, bound={"max": 0})
    detail = "; ".join(problems[:_MOST_PROBLEMS])
    remedy = "pass it as a build secret (`--secret`) and rotate it: it has been exposed"
    return check(
        status=Status.FAILED,
        value=len(problems),
        bound={"max": 0},
        detail=detail,
        remedy=remedy,
    )


def _places_of_secrets(
    labels: Mapping[str, str], env: Sequence[str], history: Sequence[str]
) -> Iterator[str]:
    places: Mapping[str, Iterable[str]] = {
        "a label": labels.values(),
        "the environment": env,
        "the history": history,
    }
    for place, texts in places.items():
        if _has_secret(texts):
            yield place


def _has_secret(texts: Iterable[str]) -> bool:
    return any(SECRET.search(text) for text in texts)


def check_size(size: int, facts: JsonObject, bound: Mapping[str, float]) -> Check:
    """Whether the image is as small as its wheels allow: its bytes for each byte of a locked wheel."""
    check = partial(
        Check, id="contract.size", title="the image is as small as its wheels allow"
    )
    wheels = facts.get("wheel_bytes")
    if not wheels:
        detail = "there is no lock inside with the size of every wheel"
        return check(status=Status.NOT_RUN, value=size, unit="B", detail=detail)
    ratio = round(size / wheels, 3)
    if ratio <= bound["max"]:
        return check(status=Status.PASSED, value=ratio, bound=dict(bound))
    return check(
        status=Status.FAILED,
        value=ratio,
        bound=dict(bound),
        detail=f"{size_text(size)} for {size_text(wheels)} of wheels",
        remedy="see `docker history IMAGE` for the layer that grew: a cache, a second CUDA, byte-code?",
    )


def check_answered(
    required: Sequence[str],
    checks: Sequence[Check],
    protocol: str,
    ending: str,
    only: Sequence[str] = (),
) -> Check:
    """Whether the suite ran to its end and answered every check that is required; `protocol`: what broke it."""
    check = partial(Check, id=COMPLETE, title="the suite ran to its end")
    answered = {answer.id for answer in checks}
    missing = sorted(set(only or required) - answered)
    problems = []
    # The reason first: a list of checks without an answer can be long.
    if ending:
        problems.append(ending)
    if protocol:
        problems.append(protocol)
    if only:
        problems.append(f"only {', '.join(only)} ran")
    if missing:
        problems.append(f"no answer to {', '.join(missing)}")
    if not problems:
        return check(status=Status.PASSED)
    remedy = (
        "run the whole suite"
        if only
        else "run it again; if it persists, build the image again"
    )
    return check(status=Status.ERROR, detail="; ".join(problems), remedy=remedy)


def verdict(checks: Sequence[Check]) -> Verdict:
    """Evidence against the image is `failed`; missing evidence, from whichever check, is `incomplete`."""
    statuses = {check.status for check in checks}
    if Status.FAILED in statuses:
        return Verdict.FAILED
    if Status.ERROR in statuses or Status.PASSED not in statuses:
        return Verdict.INCOMPLETE
    return Verdict.PASSED
