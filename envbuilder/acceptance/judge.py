"""The verdict. Pure: it believes no `passed` it cannot derive from the checks themselves."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from envbuilder.model import Check, Status

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


def check_labels(labels: Mapping[str, str], facts: Mapping[str, Any]) -> Check:
    """Whether what the labels say is what the suite read inside."""
    check = partial(Check, id="identity.labels", title="labels say what is inside")
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
    if said in ("", _ANY_OS) or seen is None:  # the stack promises nothing here, or it cannot be read here
        return
    text = " ".join(seen) if isinstance(seen, list) else str(seen)
    if not (text == said or said.startswith(text + ".")):  # torch knows CUDA as 11.7 and cuDNN as 8.5.0
        yield f"{label} says {said}; inside is {text}"


def check_answered(required: Sequence[str], checks: Sequence[Check], strange: Sequence[str], ending: str) -> Check:
    """Whether the suite ran to its end and answered all that this envbuilder insists on."""
    check = partial(Check, id="suite.complete", title="the suite ran to its end")
    missing = sorted(set(required) - {answer.id for answer in checks})
    problems = [f"no answer to {', '.join(missing)}"] if missing else []
    problems += [ending] if ending else []
    problems += [f"{len(strange)} lines are no events, the first: {strange[0]}"] if strange else []
    if problems:
        return check(status=Status.ERROR, detail="; ".join(problems), remedy="build the image again")
    return check(status=Status.PASSED)


def verdict(checks: Sequence[Check]) -> str:
    """`passed` if every check passed or was rightly not run, and at least one passed."""
    good = all(check.status in (Status.PASSED, Status.NOT_RUN) for check in checks)
    return "passed" if good and any(check.status is Status.PASSED for check in checks) else "failed"
