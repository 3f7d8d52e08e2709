"""Every answer to every combination of choices, as a graph small enough to travel in a page.

The resolver judges one stack by one option at a time (`resolver.objections`), so the stacks that an option leaves are a
set, and those that a request leaves are the sets' intersection. The intersections are walked here; what stands at
their ends is always `resolver.resolve`'s own answer, and `tests/unit/test_page.py` compares cells with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from envbuilder.catalog.gpus import eras
from envbuilder.catalog.rows import Catalog, TorchBuild
from envbuilder.errors import NoStackError
from envbuilder.format.page.axes import ANY, Axis, Picked, axes_of, request_of
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Request, Stack
from envbuilder.resolve import resolver
from envbuilder.resolve.rules import eras_left

NOTHING = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Choices that no stack has together, each of which is needed for that; what the resolver says of them."""

    picked: Picked
    reasons: tuple[str, ...]
    suggestions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """`nodes[root][place]…`, one step an axis: the number of a stack at the end, `NOTHING` where there is none."""

    axes: tuple[Axis, ...]
    nodes: tuple[tuple[int, ...], ...]
    root: int
    stacks: tuple[Stack, ...]
    clashes: tuple[Clash, ...]

    def answer(self, picked: Picked) -> Stack | None:
        """The stack for these choices, as the page looks it up."""
        at = self.root
        for axis in self.axes:
            at = self.nodes[at][axis.place(picked.get(axis.name, ANY))]
            if at == NOTHING:
                return None
        return self.stacks[at]

    def clashes_in(self, picked: Picked) -> list[Clash]:
        """Every clash among these choices, as the page finds them."""
        return [clash for clash in self.clashes if clash.picked.items() <= picked.items()]


def compute(catalog: Catalog) -> Grid:
    """The whole grid of what the page offers to choose."""
    axes = axes_of(catalog)
    sets = _Sets(catalog, axes)
    walk = _Walk(axes, sets, catalog)
    root = walk.node(0, sets.everything, {})
    clashes = [_clash(picked, catalog) for picked in _minimal(axes, sets)]
    return Grid(axes=axes, nodes=tuple(walk.nodes), root=root, stacks=tuple(walk.stacks), clashes=tuple(clashes))


class _Sets:
    """Choice → the stacks that it leaves, as bits of a number."""

    def __init__(self, catalog: Catalog, axes: Sequence[Axis]) -> None:
        requests = {
            (axis.name, choice.value): request_of({axis.name: choice.value})
            for axis in axes
            for choice in axis.choices[1:]
        }
        self.of = dict.fromkeys(requests, 0)
        size, bit = 0, 1
        for build in catalog.torch:  # one at a time: to look a stack up among a few is quick
            alone = replace(catalog, torch=(build,))
            for stack in dict.fromkeys(_stacks(alone, build)):
                for pair, request in requests.items():
                    self.of[pair] |= 0 if resolver.objections(request, stack, alone) else bit
                bit <<= 1
                size += 1
        self.everything = (1 << size * len(eras(catalog))) - 1
        for (name, value), request in requests.items():  # as in `choice`: every stack once for each era of drivers
            numbers = eras_left(name, getattr(request, name), catalog)
            self.of[name, value] = sum(self.of[name, value] << number * size for number in numbers)
        self.of |= {(axis.name, ANY): self.everything for axis in axes}

    def left(self, picked: Picked) -> int:
        """The stacks that all of these choices leave."""
        found = self.everything
        for pair in picked.items():
            found &= self.of[pair]
        return found


def _stacks(catalog: Catalog, build: TorchBuild) -> Iterator[Stack]:
    """Every stack of a build: on each Python, on each kind of base."""
    for python, base in product(build.pythons, (BASE_AUTO, BASE_BOOTSTRAP)):
        try:
            yield resolver.resolve(Request(torch=build.torch, cuda=build.cuda, python=python, base=base), catalog)
        except NoStackError:
            continue


class _Walk:
    """The graph in the making; two ways to the same set of stacks share what comes after."""

    def __init__(self, axes: Sequence[Axis], sets: _Sets, catalog: Catalog) -> None:
        self._axes, self._sets, self._catalog = axes, sets, catalog
        self._known: dict[tuple[int, int, bool], int] = {}
        self.nodes: list[tuple[int, ...]] = []
        self.stacks: dict[Stack, int] = {}  # and its number

    def node(self, depth: int, left: int, picked: Picked) -> int:
        if not left:
            return NOTHING
        place = depth, left, {"gpu", "driver"} <= picked.keys()  # that they meet is a fact that the answer rests on
        if place not in self._known:
            self._known[place] = self._end(picked) if depth == len(self._axes) else self._step(depth, left, picked)
        return self._known[place]

    def _step(self, depth: int, left: int, picked: Picked) -> int:
        axis = self._axes[depth]
        children = tuple(
            self.node(
                depth + 1,
                left & self._sets.of[axis.name, choice.value],
                {**picked, axis.name: choice.value} if choice.value else picked,
            )
            for choice in axis.choices
        )
        self.nodes.append(children)
        return len(self.nodes) - 1

    def _end(self, picked: Picked) -> int:
        return self.stacks.setdefault(resolver.resolve(request_of(picked), self._catalog), len(self.stacks))


def _minimal(axes: Sequence[Axis], sets: _Sets) -> Iterator[Picked]:
    """Every set of choices that leaves nothing, while each set with one choice fewer leaves something."""

    def search(depth: int, picked: Picked, left: int) -> Iterator[Picked]:
        for number, axis in enumerate(axes[depth:], depth + 1):
            for choice in axis.choices[1:]:
                more = {**picked, axis.name: choice.value}
                fewer = left & sets.of[axis.name, choice.value]
                if fewer:
                    yield from search(number, more, fewer)
                elif all(sets.left({n: v for n, v in more.items() if n != name}) for name in more):
                    yield more

    yield from sorted(search(0, {}, sets.everything), key=len)


def _clash(picked: Picked, catalog: Catalog) -> Clash:
    try:
        resolver.resolve(request_of(picked), catalog)
    except NoStackError as error:
        return Clash(picked=picked, reasons=error.reasons, suggestions=error.suggestions)
    raise ValueError(f"the resolver has a stack for {dict(picked)}, and its rules have none")
