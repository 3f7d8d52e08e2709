"""What a build will do and what it made, as text for a person and as the document of `build --json`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envbuilder import serialize
from envbuilder.console import size_text, table
from envbuilder.format.receipt_text import training_text
from envbuilder.model import REPOSITORY, Lock, Stack
from envbuilder.pipeline import BuildResult, BuildSettings


def outcome_document(outcome: BuildResult) -> dict[str, Any]:
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


def outcome_text(outcome: BuildResult) -> str:
    """What was built, and what it has proven."""
    pairs = {
        "image": outcome.image,
        "tag": outcome.tag,
        "size": size_text(outcome.size),
        "built in": f"{outcome.seconds:.1f} s ({outcome.cached} of {outcome.steps} steps were cached)",
        "fine-tune": training_text(outcome.receipt.training),
    }
    if outcome.digest:
        pairs["pushed"] = outcome.digest
    return "\n".join([table(pairs), f"use it: docker run --rm -it {outcome.tag} train"])


def plan_document(
    stack: Stack,
    lock: Lock | None,
    settings: BuildSettings,
    *,
    context: Path,
    dockerfile: str,
    argv: Sequence[str],
) -> dict[str, Any]:
    """`build --dry-run --json`."""
    return {
        "stack": stack.name,
        "base": stack.base.reference,
        "wheels": len(lock.wheels) if lock else None,
        "as_of": str(stack.as_of),
        "context": str(context),
        "dockerfile": str(context / dockerfile),
        "command": list(argv),
        "tag": _tag(stack, settings),
        "push": settings.push,
    }


def _tag(stack: Stack, settings: BuildSettings) -> str:
    return settings.tag or f"{REPOSITORY}:{stack.name}"


def plan_text(
    stack: Stack,
    lock: Lock | None,
    settings: BuildSettings,
    *,
    context: Path,
    dockerfile: str,
    argv: Sequence[str],
) -> str:
    """What `build` would do: for a lock, or for a stack that is to be locked first."""
    pairs = {
        "stack": stack.name,
        "base": f"{stack.base.reference} ({stack.base.source})",
        "packages": f"{len(lock.wheels)} locked wheels"
        if lock
        else f"as of {stack.as_of}",
        "context": str(context),
        "Dockerfile": str(context / dockerfile),
        "build": shlex.join(argv),
        "accept": "this envbuilder's acceptance suite, before tagging",
        "tag": _tag(stack, settings),
        "push": _push_text(settings),
    }
    return table(pairs)


def _push_text(settings: BuildSettings) -> str:
    if not settings.push:
        return "no"
    form = settings.push_options.describe()
    return f"yes, with {form}" if form else "yes"
