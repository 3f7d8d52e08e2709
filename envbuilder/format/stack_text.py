"""Nouns as text for a person and as the documents that `--json` promises."""

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envbuilder import serialize
from envbuilder.acceptance.report.summary import number
from envbuilder.console import table
from envbuilder.engine.buildx import build_argv
from envbuilder.model import REPOSITORY, Lock, Receipt, Request, Stack
from envbuilder.pipeline import Outcome, Site, Wishes, decide
from envbuilder.render.context import place_of


def stack_document(stack: Stack) -> dict[str, Any]:
    """`resolve --json`'s stack: the contract's keys first, then everything else that is known."""
    plain = serialize.plain(stack)
    contract = {
        **{
            key: plain[key]
            for key in ("python", "torch", "torchvision", "torchaudio", "cuda", "cudnn", "nccl", "index")
        },
        "arch_list": plain["arch_list"],
        "driver_floor": plain["driver_floor"],
        "base": stack.base.reference,
        "os": stack.base.os,
        "as_of": plain["as_of"],
        "packages": [*plain["requirements"], *plain["extras"]],
    }
    rest = ("triton", "platform", "excluded", "features", "notes", "evidence")
    more = {"base_source": plain["base"]["source"], "flavour": stack.flavour.value}
    return {"name": stack.name, **contract, **more, **{key: plain[key] for key in rest}}


def stack_text(stack: Stack) -> str:
    """A stack in two columns, with its notes below."""
    cuda = {
        "CUDA": f"{stack.cuda}",
        "cuDNN": f"{stack.cudnn}",
        "NCCL": stack.nccl_text,
        "GPU code": " ".join(stack.arch_list),
        "driver": f"{stack.driver_floor} or newer",
    }
    pairs = {
        **(cuda if stack.cuda else {"CUDA": "none: it trains on the CPU"}),
        "Python": f"{stack.python}",
        "torch": f"{stack.torch}",
        "torchvision": f"{stack.torchvision}",
        "torchaudio": str(stack.torchaudio or "none for this torch"),
        "base": f"{stack.base.reference} ({stack.base.os}, {stack.base.source})",
        "packages": f"as of {stack.as_of}: {', '.join(_besides(stack))}",
        **{
            feature.name: "works" if feature.available else f"not available: {feature.reason}"
            for feature in stack.features
        },
        "evidence": stack.evidence,
    }
    return "\n".join([stack.name, table(pairs), *(f"note: {note}" for note in stack.notes)])


def _besides(stack: Stack) -> list[str]:
    """What stands in the stack beside the torch family, which has lines of its own."""
    family = ("torch==", "torchvision==", "torchaudio==")
    return [line for line in (*stack.requirements, *stack.extras) if not line.startswith(family)]


def receipt_text(receipt: Receipt) -> str:
    """What an image has proven, by family of checks."""
    families: dict[str, Counter[str]] = {}
    for check in receipt.checks:
        families.setdefault(check.id.split(".")[0], Counter())[check.status.value.replace("_", " ")] += 1
    counts = {
        name: ", ".join(f"{number} {status}" for status, number in found.items()) for name, found in families.items()
    }
    heading = {"image": receipt.reference or receipt.image, "verdict": receipt.verdict.value}
    trained = {"fine-tune": training_text(receipt.training)} if receipt.training else {}
    took = f"{receipt.seconds:.0f} s on {receipt.host.get('cpus')} cores, {receipt.started}"
    return table({**heading, **counts, **trained, "took": took})


def training_text(training: Mapping[str, Any]) -> str:
    """The bundled fine-tune in a line."""
    accuracy, negated, seconds = (number(training.get(name)) or 0 for name in ("accuracy", "negated", "seconds"))
    return (
        f"{accuracy:.3f} on held-out reviews, {negated:.3f} on the negated ones, "
        f"{seconds:.1f} s on {training.get('device', '?')}"
    )


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """`build --json`."""
    return {
        "image": outcome.image,
        "tag": outcome.tag,
        "bytes": outcome.size,
        "build_seconds": outcome.seconds,
        "cached_steps": outcome.cached,
        "steps": outcome.steps,
        "digest": outcome.digest or None,
        "receipt": serialize.plain(outcome.receipt),
    }


def outcome_text(outcome: Outcome) -> str:
    """What was built, and what it has proven."""
    pairs = {
        "image": outcome.image,
        "tag": outcome.tag,
        "size": f"{outcome.size / 1e9:.2f} GB",
        "built in": f"{outcome.seconds:.1f} s ({outcome.cached} of {outcome.steps} steps were cached)",
        "fine-tune": training_text(outcome.receipt.training),
    }
    if outcome.digest:
        pairs["pushed"] = outcome.digest
    return "\n".join([table(pairs), f"use it: docker run --rm -it {outcome.tag} train"])


def plan_text(request: Request | Lock, site: Site, wishes: Wishes) -> str:
    """What `build` would do, from the request alone."""
    stack = request.stack if isinstance(request, Lock) else decide(request, site)
    dockerfile = f"{place_of(stack)}/Dockerfile"
    argv = build_argv(
        site.context,
        dockerfile=dockerfile,
        iidfile=Path("IIDFILE"),
        metadata=Path("METADATA"),
        options=wishes.options,
        network=site.network,
    )
    pairs = {
        "stack": stack.name,
        "base": f"{stack.base.reference} ({stack.base.source})",
        "packages": f"as of {stack.as_of}" if not isinstance(request, Lock) else f"{len(request.wheels)} locked wheels",
        "context": str(site.context),
        "Dockerfile": str(site.context / dockerfile),
        "build": shlex.join(argv),
        "accept": "the suite of this envbuilder, before the tag",
        "tag": wishes.tag or f"{REPOSITORY}:{stack.name}",
        "push": "yes" if wishes.push else "no",
    }
    return table(pairs)
