"""Every answer to every combination of choices, as a graph small enough to travel in a page.

The candidate index has a mask for each choice; the candidates that several choices leave are the AND of their masks.
The masks are walked here, axis by axis; what stands at the ends is always `resolve`'s own answer, and
`tests/unit/test_page.py` compares cells with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError
from envbuilder.format.page.axes import ANY, Axis, Picked, axes_of, request_of
from envbuilder.model import Stack
from envbuilder.resolve import resolve
from envbuilder.resolve.candidate_index import index_for
from envbuilder.resolve.options import OPTIONS

NOTHING = -1
_ALL = -1  # as a mask: every bit


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
    masks = _Masks(catalog, axes)
    walk = _Walk(axes, masks, catalog)
    root = walk.node(0, masks.everything, {})
    clashes = [_clash(picked, catalog) for picked in _minimal_clashes(axes, masks)]
    return Grid(
        axes=axes,
        nodes=tuple(walk.nodes),
        root=root,
        stacks=tuple(walk.stacks),
        clashes=tuple(clashes),
    )


class _Masks:
    """Choice → the candidates that it leaves, as the bits of a mask."""

    def __init__(self, catalog: Catalog, axes: Sequence[Axis]) -> None:
        index = index_for(catalog)
        by_name = {axis.name: axis for axis in axes}
        self.of: dict[tuple[str, str], int] = {}
        self.everything = index.always
        for option in OPTIONS:
            # A choice never leaves more than the default does, so the default can hold from the start.
            self.everything &= index.mask_for(option, option.default)
            if option.name not in by_name:
                continue
            self.of[option.name, ANY] = _ALL
            for choice in by_name[option.name].choices[1:]:
                request = request_of({option.name: choice.value})
                self.of[option.name, choice.value] = index.mask_for(option, option.value_in(request))

    def left(self, picked: Picked) -> int:
        """The candidates that all of these choices leave."""
        mask = self.everything
        for pair in picked.items():
            mask &= self.of[pair]
        return mask


class _Walk:
    """The graph in the making; two ways to the same candidates share what comes after."""

    def __init__(self, axes: Sequence[Axis], masks: _Masks, catalog: Catalog) -> None:
        self._axes = axes
        self._masks = masks
        self._catalog = catalog
        self._known: dict[tuple[int, int, bool], int] = {}
        self.nodes: list[tuple[int, ...]] = []
        self.stacks: dict[Stack, int] = {}  # and its number

    def node(self, depth: int, mask: int, picked: Picked) -> int:
        if not mask:
            return NOTHING
        # A stack for a GPU and a driver rests on one more fact, that they go together: its evidence may be weaker.
        has_pair = {"gpu", "driver"} <= picked.keys()
        place = (depth, mask, has_pair)
        if place not in self._known:
            is_end = depth == len(self._axes)
            self._known[place] = self._end(picked) if is_end else self._step(depth, mask, picked)
        return self._known[place]

    def _step(self, depth: int, mask: int, picked: Picked) -> int:
        axis = self._axes[depth]
        children = []
        for choice in axis.choices:
            further = {**picked, axis.name: choice.value} if choice.value else picked
            left = mask & self._masks.of[axis.name, choice.value]
            children.append(self.node(depth + 1, left, further))
        self.nodes.append(tuple(children))
        return len(self.nodes) - 1

    def _end(self, picked: Picked) -> int:
        stack = resolve(request_of(picked), self._catalog)
        return self.stacks.setdefault(stack, len(self.stacks))


def _minimal_clashes(axes: Sequence[Axis], masks: _Masks) -> list[Picked]:
    """Every set of choices that leaves nothing, while each set with one choice fewer leaves something."""
    return sorted(_search(axes, masks, {}, masks.everything), key=len)


def _search(axes: Sequence[Axis], masks: _Masks, picked: Picked, mask: int) -> Iterator[Picked]:
    """The minimal clashes of `picked`, which leaves `mask`, with choices of further axes."""
    for number, axis in enumerate(axes, 1):
        for choice in axis.choices[1:]:
            more = {**picked, axis.name: choice.value}
            left = mask & masks.of[axis.name, choice.value]
            if left:
                yield from _search(axes[number:], masks, more, left)
            elif _is_minimal(more, masks):
                yield more


def _is_minimal(picked: Mapping[str, str], masks: _Masks) -> bool:
    """Whether each choice is needed for the clash."""
    for name in picked:
        others = {other: value for other, value in picked.items() if other != name}
        if not masks.left(others):
            return False
    return True


def _clash(picked: Picked, catalog: Catalog) -> Clash:
    try:
        resolve(request_of(picked), catalog)
    except NoStackError as error:
        return Clash(
            picked=picked,
            reasons=error.plain_reasons,
            suggestions=error.suggestions,
        )
    raise ValueError(f"the resolver has a stack for {dict(picked)}, and its index has none")
