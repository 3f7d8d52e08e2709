"""The page itself: the grid and what it says of each stack, as data beside the script that shows it."""

import base64
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import zip_longest
from typing import Any

from markupsafe import Markup
from packaging.requirements import Requirement
from packaging.version import Version

from envbuilder import resources
from envbuilder.catalog.rows import Catalog, Evidence
from envbuilder.files import read_text
from envbuilder.format.page import dockerfile
from envbuilder.format.page.axes import Axis, Picked, line, request_of
from envbuilder.format.page.grid import Clash, Grid
from envbuilder.format.page.receipt_summary import UNPROVEN, Proof
from envbuilder.lock import TORCH_FAMILY
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Lock, Stack
from envbuilder.resolve.command_line import command
from envbuilder.templates import fill
from envbuilder.versions import matches_prefix

_UNASKED = ("any", BASE_AUTO)  # what an option is set to that is dropped
_EVIDENCE = {
    Evidence.VERIFIED: "every fact it rests on was read from the wheels or executed",
    Evidence.DOCUMENTED: "the weakest fact it rests on is a page’s word",
    Evidence.INFERRED: "the weakest fact it rests on was reasoned",
}


def html(catalog: Catalog, grid: Grid, *, locks: Sequence[Lock] = (), proofs: Mapping[str, Proof] | None = None) -> str:
    """The page of a catalog's grid; Dockerfiles are whole for the stacks that `locks` are of."""
    by_name = {lock.stack.name: lock for lock in locks}
    gpus = _names(catalog)
    data = document(Known(grid=grid, day=catalog.date.isoformat(), locks=by_name, proofs=proofs or {}))
    data["gpus"] = {name.lower(): value for name, value in gpus.items()}
    folder = resources.folder("templates") / "catalog"
    script, style = (read_text(folder / f"page.{suffix}") for suffix in ("js", "css"))
    values = {
        "axes": grid.axes,
        "gpus": gpus,
        "day": catalog.date,
        "data": _embedded(data),
        "script": Markup(script),  # noqa: S704 - our own files, not somebody's text
        "script_hash": _hash(script),
        "style": Markup(style),  # noqa: S704
        "style_hash": _hash(style),
    }
    return fill("catalog/page.html.j2", values, html=True)


def _names(catalog: Catalog) -> dict[str, str]:
    """Name of a GPU → its capability."""
    return {name: str(row.capability) for row in catalog.gpus for name in row.names}


def _embedded(data: Mapping[str, Any]) -> Markup:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))  # noqa: S704 - no `<` is left


def _hash(text: str) -> str:
    """What a content security policy allows an inline script or style by."""
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode()


@dataclass(slots=True)
class _Table:
    """Texts by number: each is written once."""

    texts: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the stacks beside what the resolver says."""

    grid: Grid
    day: str  # of the catalog
    locks: Mapping[str, Lock]
    proofs: Mapping[str, Proof]

    def lock_of(self, stack: Stack) -> Lock | None:
        """The lock of exactly this stack."""
        lock = self.locks.get(stack.name)
        return lock if lock is not None and lock.stack == stack else None


def document(known: Known) -> dict[str, Any]:
    """Everything that the page's script reads."""
    grid = known.grid
    table = _Table()
    return {
        "axes": [
            {
                "name": axis.name,
                "title": axis.title,
                "values": [choice.value for choice in axis.choices],
                "labels": [choice.label for choice in axis.choices],
                "words": [choice.words for choice in axis.choices],
            }
            for axis in grid.axes
        ],
        "order": _order(grid.axes),
        "root": grid.root,
        "nodes": grid.nodes,
        "stacks": [_stack(stack, known, table) for stack in grid.stacks],
        "clashes": [_clash(clash, grid.axes, table) for clash in grid.clashes],
        "texts": table.texts,
    }


def _order(axes: Sequence[Axis]) -> list[str]:
    """The axes as `command` orders its options."""
    everything = {axis.name: axis.choices[1].value for axis in axes}
    words = shlex.split(command(request_of(everything)))
    return [word.removeprefix("--") for word in words if word.startswith("--")]


def _clash(clash: Clash, axes: Sequence[Axis], table: _Table) -> dict[str, Any]:
    return {
        "picked": clash.picked,
        "reasons": [table.number(reason) for reason in clash.reasons],
        "suggestions": [{"command": text, "picked": picked_of(text, axes)} for text in clash.suggestions],
    }


def picked_of(command: str, axes: Sequence[Axis]) -> Picked | None:
    """The choices that a suggested command amounts to; None if the page does not offer them."""
    words = shlex.split(command)[2:]
    picked = {}
    for option, value in zip_longest(words[::2], words[1::2], fillvalue=""):
        if value in _UNASKED:
            continue
        axis = next((axis for axis in axes if f"--{axis.name}" == option), None)
        choice = _choice(axis, value) if axis else None
        if axis is None or choice is None:
            return None
        picked[axis.name] = choice
    return picked


def _choice(axis: Axis, value: str) -> str | None:
    for choice in axis.choices[1:]:
        if choice.words == f"--{axis.name} {value}":
            return choice.value
    if axis.name != "torch":
        return None
    return next((c.value for c in axis.choices[1:] if matches_prefix(Version(c.value), Version(value))), None)


# --- stacks --------------------------------------------------------------------------------------------------------


def _stack(stack: Stack, known: Known, table: _Table) -> dict[str, Any]:
    proof = known.proofs.get(stack.name)
    lock = known.lock_of(stack)
    accepted = proof is not None and proof.accepted
    return {
        "name": stack.name,
        "pairs": [[label, table.number(value)] for label, value in _pairs(stack)],
        "notes": [table.number(note) for note in stack.notes],
        "proof": {
            "state": "accepted" if accepted else "refused" if proof else "unproven",
            "title": proof.title if proof else UNPROVEN,
            "pairs": proof.pairs if proof else (),
        },
        "neighbours": [] if accepted else list(_neighbours(stack, known)),
        "locked": lock is not None,
        "dockerfile": [table.number(row) for row in _nameless(stack, lock, known.day)],
    }


def _nameless(stack: Stack, lock: Lock | None, day: str) -> Sequence[str]:
    """The Dockerfile by lines, with `{name}` for the stack's name: most lines are those of other stacks, too."""
    return dockerfile.text_of(stack, lock, day).replace(stack.name, "{name}").split("\n")


def _pairs(stack: Stack) -> Iterator[tuple[str, str]]:
    """A stack in the words of `envbuilder resolve`."""
    yield "CUDA", str(stack.cuda)
    yield "cuDNN", str(stack.cudnn)
    yield "NCCL", stack.nccl_text
    yield "Python", str(stack.python)
    yield "torch", str(stack.torch)
    yield "torchvision", str(stack.torchvision)
    yield "torchaudio", str(stack.torchaudio or "none for this torch")
    yield "GPU code", " ".join(stack.arch_list)
    yield "driver", f"{stack.driver_floor} or newer"
    yield "index", stack.index
    yield "base", f"{stack.base.reference} ({stack.base.os}, {stack.base.source})"
    packages = [text for text in stack.requirements if Requirement(text).name not in TORCH_FAMILY]
    yield "packages", f"as of {stack.as_of}: {', '.join(packages)}"
    for feature in stack.features:
        yield feature.name, "works" if feature.available else f"not available: {feature.reason}"
    yield "evidence", f"{stack.evidence}: {_EVIDENCE[Evidence(stack.evidence)]}"


def _neighbours(stack: Stack, known: Known) -> Iterator[dict[str, Any]]:
    """Accepted stacks of the same torch and CUDA on another Python or base, and how to pick them."""
    for other in known.grid.stacks:
        proof = known.proofs.get(other.name)
        if proof and proof.accepted and (other.torch, other.cuda) == (stack.torch, stack.cuda):
            picked = _picks(other, known.grid)
            if picked is not None:
                yield {"name": other.name, "title": proof.title, "picked": picked}


def _picks(stack: Stack, grid: Grid) -> Picked | None:
    """Choices that lead to this stack."""
    picked = {"cuda": stack.cuda_line, "torch": str(line(stack.torch)), "python": str(stack.python)}
    for more in ({}, {"base": BASE_BOOTSTRAP}):
        if grid.answer({**picked, **more}) == stack:
            return {**picked, **more}
    return None
