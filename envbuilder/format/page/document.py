"""The page itself: the grid and its stacks as data, with the script that shows them."""

import base64
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from typing import Any

from markupsafe import Markup
from packaging.requirements import Requirement
from packaging.version import Version

from envbuilder import resources
from envbuilder.catalog.gpu_names import find_gpu, named_gpus, needs_arm64
from envbuilder.catalog.rows import Catalog, Evidence, GpuFeature
from envbuilder.files import read_text
from envbuilder.format.page import dockerfile
from envbuilder.format.page.axes import Axis, Picked, request_of
from envbuilder.format.page.companions_shown import CompanionShelf
from envbuilder.format.page.grid import Clash, Grid
from envbuilder.format.page.receipt_summary import UNPROVEN, Proof
from envbuilder.grammar import JsonObject
from envbuilder.lock.wheel_selection import TORCH_FAMILY
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Lock, Stack
from envbuilder.resolve.command_line import texts_of_set_options
from envbuilder.resolve.stack import first_torch, gpu_feature
from envbuilder.templates import fill
from envbuilder.versions import matches_prefix, minor_line

_UNASKED = ("any", BASE_AUTO)  # what an option is set to that is dropped
_EVIDENCE = {
    Evidence.VERIFIED: "every fact it rests on was read from the wheels or executed",
    Evidence.DOCUMENTED: "the weakest fact it rests on is a page’s word",
    Evidence.INFERRED: "the weakest fact it rests on was reasoned",
}


def html(
    catalog: Catalog,
    grid: Grid,
    *,
    locks: Sequence[Lock] = (),
    proofs: Mapping[str, Proof] | None = None,
) -> str:
    """The page of a catalog's grid; Dockerfiles are whole for the stacks that `locks` are of."""
    page = PageData(
        grid=grid,
        shelf=CompanionShelf(catalog),
        day=catalog.date.isoformat(),
        locks={lock.stack.name: lock for lock in locks},
        proofs=proofs or {},
    )
    gpus = _names(catalog)
    data = document(page)
    data["gpus"] = {name.lower(): value for name, value in gpus.items()}
    data["arm64"] = [name.lower() for name in _with_arm64(gpus, catalog)]
    folder = resources.folder("templates") / "catalog"
    script = read_text(folder / "page.js")
    style = read_text(folder / "page.css")
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
    """Name of a GPU → its capability; a name that can mean several is not among them."""
    capabilities = {}
    for name, _ in named_gpus(catalog):
        found = find_gpu(name, catalog)
        if found:
            capabilities[name] = str(found.capability)
    return capabilities


def _with_arm64(names: Iterable[str], catalog: Catalog) -> Iterator[str]:
    """Those that come with an arm64 processor, whose stacks the page does not have."""
    for name in names:
        gpu = find_gpu(name, catalog)
        if gpu and needs_arm64(name, gpu, catalog):
            yield name


def _embedded(data: JsonObject) -> Markup:
    """JSON that cannot end the element that contains it."""
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

    def numbers(self, texts: Iterable[str]) -> list[int]:
        return [self.number(text) for text in texts]


@dataclass(frozen=True, kw_only=True)
class PageData:
    """All that the page shows: the grid, and what locks and receipts say of its stacks."""

    grid: Grid
    day: str  # of the catalog
    locks: Mapping[str, Lock]
    proofs: Mapping[str, Proof]
    shelf: CompanionShelf | None = None  # None: nothing is said of companions

    def lock_of(self, stack: Stack) -> Lock | None:
        """The lock of exactly this stack."""
        lock = self.locks.get(stack.name)
        return lock if lock is not None and lock.stack == stack else None

    @cached_property
    def accepted(self) -> list[tuple[Stack, Proof]]:
        """The stacks that have been accepted; looked up once, since each of the others is compared with them."""
        proven = []
        for stack in self.grid.stacks:
            proof = self.proofs.get(stack.name)
            if proof and proof.accepted:
                proven.append((stack, proof))
        return proven


def document(page: PageData) -> dict[str, Any]:
    """Everything that the page's script reads."""
    grid = page.grid
    table = _Table()
    return {
        "axes": [_axis(axis) for axis in grid.axes],
        "order": _order(grid.axes),
        "features": _gpu_features(grid),
        "root": grid.root,
        "nodes": grid.nodes,
        "stacks": [_stack(stack, page, table) for stack in grid.stacks],
        "clashes": [_clash(clash, grid.axes, table) for clash in grid.clashes],
        "companions": _companions(page, table),
        "texts": table.texts,
    }


def _gpu_features(grid: Grid) -> dict[str, Any]:
    """Compute capability → what its GPUs can do: each stack is written once, whichever GPU it is for."""
    document: dict[str, list[Any]] = {}
    for axis in grid.axes:
        if axis.name != "gpu":
            continue
        for choice in axis.choices[1:]:
            capability = Version(choice.value)
            features = [_gpu_feature(row, capability) for row in grid.gpu_features]
            document[choice.value] = features
    return document


def _gpu_feature(row: GpuFeature, capability: Version) -> list[Any]:
    """Its name, what to read, whether the GPU can do it, and the first torch that can."""
    feature = gpu_feature(row, capability, None)
    first = first_torch(row, capability)
    numbers = [0, 0]
    if first:
        numbers = [first.major, first.minor]
    return [
        feature.name,
        feature.text,
        feature.available,
        numbers,
    ]


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "name": axis.name,
        "title": axis.title,
        "values": [choice.value for choice in axis.choices],
        "labels": [choice.label for choice in axis.choices],
        "words": [choice.words for choice in axis.choices],
    }


def _order(axes: Sequence[Axis]) -> list[str]:
    """The axes as `command` orders its options."""
    everything = {}
    for axis in axes:
        first = axis.choices[1]
        everything[axis.name] = first.value
    request = request_of(everything)
    return list(texts_of_set_options(request))


def _clash(clash: Clash, axes: Sequence[Axis], table: _Table) -> dict[str, Any]:
    suggestions = []
    for text in clash.suggestions:
        suggestion = {
            "command": text,
            "picked": picked_of(text, axes),
        }
        suggestions.append(suggestion)
    return {
        "picked": clash.picked,
        "reasons": table.numbers(clash.reasons),
        "suggestions": suggestions,
    }


def picked_of(command: str, axes: Sequence[Axis]) -> Picked | None:
    """The choices that a suggested command amounts to; None if the page does not offer them."""
    by_option = {f"--{axis.name}": axis for axis in axes}
    words = shlex.split(command)[2:]
    options = words[::2]
    values = words[1::2]
    picked = {}
    for option, value in zip_longest(options, values, fillvalue=""):
        if value in _UNASKED:
            continue
        if option not in by_option:
            return None
        axis = by_option[option]
        choice = _choice(axis, value)
        if choice is None:
            return None
        picked[axis.name] = choice
    return picked


def _choice(axis: Axis, value: str) -> str | None:
    """The choice of an option's value; a release of torch is offered by its line."""
    words = f"--{axis.name} {value}"
    for choice in axis.choices[1:]:
        if choice.words == words:
            return choice.value
    if axis.name == "torch":
        for choice in axis.choices[1:]:
            if matches_prefix(Version(choice.value), Version(value)):
                return choice.value
    return None


# --- stacks --------------------------------------------------------------------------------------------------------


def _stack(stack: Stack, page: PageData, table: _Table) -> dict[str, Any]:
    lock = page.lock_of(stack)
    proof = page.proofs.get(stack.name)
    neighbours = []
    if proof is None or not proof.accepted:
        neighbours = list(_neighbours(stack, page))
    return {
        "name": stack.name,
        "pairs": [[label, table.number(value)] for label, value in _pairs(stack)],
        "notes": table.numbers(stack.notes),
        "proof": _proof(proof),
        "neighbours": neighbours,
        "companions": page.shelf.number(stack) if page.shelf else 0,
        "locked": lock is not None,
        "dockerfile": table.numbers(_nameless(stack, lock, page.day)),
    }


def _companions(page: PageData, table: _Table) -> list[list[list[Any]]]:
    """For each of the sets that stacks have, the name of each companion, what to read, and whether it fits."""
    sets: list[list[list[Any]]] = []
    if page.shelf is None:
        return [[]]
    for shelf in page.shelf.sets:
        companions = []
        for shown in shelf:
            number = table.number(shown.text)
            companions.append([shown.name, number, int(shown.fits)])
        sets.append(companions)
    return sets


def _proof(proof: Proof | None) -> dict[str, Any]:
    if proof is None:
        return {"state": "unproven", "title": UNPROVEN, "pairs": ()}
    return {
        "state": "accepted" if proof.accepted else "refused",
        "title": proof.title,
        "pairs": proof.pairs,
    }


def _nameless(stack: Stack, lock: Lock | None, day: str) -> Sequence[str]:
    """The Dockerfile by lines, with `{name}` for the stack's name: most lines are those of other stacks, too."""
    text = dockerfile.text_of(stack, lock, day)
    return text.replace(stack.name, "{name}").split("\n")


def _pairs(stack: Stack) -> Iterator[tuple[str, str]]:
    """A stack in the words of `envbuilder resolve`."""
    yield "CUDA", str(stack.cuda)
    yield "cuDNN", str(stack.cudnn)
    yield "NCCL", stack.nccl_text
    yield "Python", str(stack.python)
    yield "torch", str(stack.torch)
    yield "torchvision", str(stack.torchvision)
    torchaudio = stack.torchaudio or "none for this torch"
    yield "torchaudio", str(torchaudio)
    yield "GPU code", " ".join(stack.arch_list)
    yield "driver", f"{stack.driver_floor} or newer"
    yield "index", stack.index
    base = stack.base
    yield "base", f"{base.reference} ({base.os}, {base.source})"
    packages = ", ".join(_packages(stack))
    yield "packages", f"as of {stack.as_of}: {packages}"
    for feature in stack.features:
        yield feature.name, feature.text
    meaning = _EVIDENCE[Evidence(stack.evidence)]
    yield "evidence", f"{stack.evidence}: {meaning}"


def _packages(stack: Stack) -> list[str]:
    """What is installed in addition to the torch family, which has pairs of its own."""
    packages = []
    for text in stack.requirements:
        if Requirement(text).name not in TORCH_FAMILY:
            packages.append(text)
    return packages


def _neighbours(stack: Stack, page: PageData) -> Iterator[dict[str, Any]]:
    """Accepted stacks of the same torch and CUDA on another Python or base, and how to pick them."""
    for other, proof in page.accepted:
        if other.torch != stack.torch or other.cuda != stack.cuda:
            continue
        picked = _picks(other, page.grid)
        if picked is not None:
            yield {
                "name": other.name,
                "title": proof.title,
                "picked": picked,
            }


def _picks(stack: Stack, grid: Grid) -> Picked | None:
    """Choices that lead to this stack."""
    picked = {
        "cuda": stack.cuda_line,
        "torch": minor_line(stack.torch),
        "python": str(stack.python),
    }
    if grid.answer(picked) == stack:
        return picked
    picked["base"] = BASE_BOOTSTRAP
    if grid.answer(picked) == stack:
        return picked
    return None
