"""The verdict. Pure: it believes no `passed` it cannot derive from the checks themselves."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from envbuilder.console import size_text
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


def check_labels(labels: Mapping[str, str], facts: Mapping[str, Any], *, ours: bool = True) -> Check:
    """Whether what the labels say is what the suite read inside."""
    check = partial(Check, id="identity.labels", title="labels say what is inside")
    if not ours:
        return check(status=Status.NOT_RUN, value=len(labels), detail="this image is not ours: its labels are its own")
    if not facts:
        return check(status=Status.ERROR, detail="nothing was read inside to compare the labels with")
    wrong = [
        problem for label, key in _LABEL_FACTS for problem in _label_problems(label, labels.get(label), facts.get(key))
    ]
    if wrong:
        return check(
            status=Status.FAILED,
            value=len(wrong),
            bound={"max": 0},
            detail="; ".join(wrong),
            remedy="render the context again and build it: `envbuilder build`",
        )
    return check(status=Status.PASSED, value=0, bound={"max": 0})


def _label_problems(label: str, said: str | None, seen: Any) -> Iterable[str]:
    if said is None:
        yield f"the label {label} is missing"
        return
    if seen is None and label.endswith(".lock"):
        yield "there is no lock inside to compare the labels with"
        return
    if said in ("", _ANY_OS) or seen is None:  # the stack promises nothing here, or it cannot be read here
        return
    text = " ".join(seen) if isinstance(seen, list) else str(seen)
    if not (text == said or said.startswith(text + ".")):  # torch knows CUDA as 11.7 and cuDNN as 8.5.0
        yield f"{label} says {said}; inside is {text}"


_OCI = tuple(f"org.opencontainers.image.{name}" for name in ("title", "description", "base.name"))
SECRET = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{32,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|https?://[^/\s:@]+:[^/\s@]+@"
    r"|(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY)=[^\s$\"']{4,}",
)


def check_layers(
    labels: Mapping[str, str], env: Sequence[str], history: Sequence[str], files: Sequence[str], *, ours: bool = True
) -> Check:
    """Whether anybody who has the image can read a secret in it; `files` are those with one, in whichever layer."""
    title = "no secret is in a layer, a label, the environment or the history"
    check = partial(Check, id="contract.layers", title=title)
    places = {"a label": labels.values(), "the environment": env, "the history": history}
    found = [place for place, texts in places.items() if any(SECRET.search(text) for text in texts)]
    found += [f"the layers, as {path}" for path in files]
    found += [f"the label {name} is missing" for name in _OCI if ours and not labels.get(name)]
    if not found:
        return check(status=Status.PASSED, value=0, bound={"max": 0})
    remedy = "give it as a build secret (`--secret`), not as ARG, ENV or in a command; then change it: it is out"
    detail = "; ".join(item if item.startswith("the label ") else f"a secret is in {item}" for item in found[:5])
    return check(status=Status.FAILED, value=len(found), bound={"max": 0}, detail=detail, remedy=remedy)


def check_size(size: int, facts: Mapping[str, Any], bound: Mapping[str, float]) -> Check:
    """Whether the image is as small as its wheels allow: its bytes for each byte of a locked wheel."""
    check = partial(Check, id="contract.size", title="the image is as small as its wheels allow", bound=dict(bound))
    wheels = facts.get("wheel_bytes")
    if not wheels:
        return check(
            status=Status.NOT_RUN, value=size, bound=None, unit="B", detail="there is no lock inside to compare with"
        )
    ratio = round(size / wheels, 3)
    if ratio <= bound["max"]:
        return check(status=Status.PASSED, value=ratio)
    remedy = "see `docker history IMAGE` for the layer that grew: a cache, a second CUDA, byte-code?"
    detail = f"{size_text(size)} for {size_text(wheels)} of wheels"
    return check(status=Status.FAILED, value=ratio, detail=detail, remedy=remedy)


def check_answered(
    required: Sequence[str], checks: Sequence[Check], protocol: str, ending: str, only: Sequence[str] = ()
) -> Check:
    """Whether the suite ran to its end and answered all that this envbuilder insists on; `protocol`: what broke it."""
    check = partial(Check, id=COMPLETE, title="the suite ran to its end")
    missing = sorted(set(only or required) - {answer.id for answer in checks})
    problems = [f"no answer to {', '.join(missing)}"] if missing else []
    problems += [f"only {', '.join(only)} ran"] if only else []
    problems += [ending] if ending else []
    problems += [protocol] if protocol else []
    if problems:
        remedy = "run the whole suite" if only else "run it again; if it stays so, build the image again"
        return check(status=Status.ERROR, detail="; ".join(problems), remedy=remedy)
    return check(status=Status.PASSED)


def verdict(checks: Sequence[Check]) -> Verdict:
    """Evidence against it is `failed`; no evidence, from whichever check, is `incomplete`."""
    found = {check.status for check in checks}
    if Status.FAILED in found:
        return Verdict.FAILED
    return Verdict.INCOMPLETE if Status.ERROR in found or Status.PASSED not in found else Verdict.PASSED
