"""Every answer to every combination of choices, as a graph small enough to travel in a page.

The candidate index has a mask for each choice; the candidates that several choices leave are the AND of their masks.
The masks are walked here, axis by axis; at the ends is always `resolve`'s own answer, and
`tests/unit/test_page.py` compares cells with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.version import Version

from envbuilder.catalog.rows import Catalog, GpuFeature
from envbuilder.errors import NoStackError
from envbuilder.format.page.axes import ANY, Axis, Picked, axes_of, request_of
from envbuilder.model import Stack
from envbuilder.resolve import resolve
from envbuilder.resolve.candidate_index import CandidateIndex, index_for
from envbuilder.resolve.option_row import Option
from envbuilder.resolve.options import OPTIONS
from envbuilder.resolve.stack import gpu_feature

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
    gpu_features: tuple[GpuFeature, ...] = ()
    """What depends on the GPU, of which a stack in `stacks` has none: it is the same for many GPUs."""

    def answer(self, picked: Picked) -> Stack | None:
        """The stack for these choices, as the page looks it up."""
        at = self.root
        for axis in self.axes:
            at = self.nodes[at][axis.place(picked.get(axis.name, ANY))]
            if at == NOTHING:
                return None
        stack = self.stacks[at]
        gpu = picked.get("gpu", ANY)
        if gpu == ANY:
            return stack
        features = [
            gpu_feature(row, Version(gpu), stack.torch) for row in self.gpu_features
        ]
        return replace(stack, gpu_features=tuple(features))

    def clashes_in(self, picked: Picked) -> list[Clash]:
        """Every clash among these choices, as the page finds them."""
        return [
            clash for clash in self.clashes if clash.picked.items() <= picked.items()
        ]


def compute(catalog: Catalog) -> Grid:
    """The whole grid of what the page offers to choose."""
    axes = axes_of(catalog)
    masks = _Masks(catalog, axes)
    walk = _Walk(axes, masks, catalog)
    root = walk.node(0, masks.everything, {})
    clashes = []
    for picked in _minimal_clashes(axes, masks):
        clashes.append(_clash(picked, catalog))
    return Grid(
        axes=axes,
        nodes=tuple(walk.nodes),
        root=root,
        stacks=tuple(walk.stacks),
        clashes=tuple(clashes),
        gpu_features=catalog.gpu_features,
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
            unset = index.mask_for(option, option.default)
            self.everything &= unset
            axis = by_name.get(option.name)
            if axis:
                self._add(axis, option, index)

    def _add(self, axis: Axis, option: Option, index: CandidateIndex) -> None:
        for choice in axis.choices:
            mask = _ALL
            if choice.value != ANY:
                request = request_of({axis.name: choice.value})
                value = option.value_in(request)
                mask = index.mask_for(option, value)
            self.of[axis.name, choice.value] = mask

    def left(self, picked: Picked) -> int:
        """The candidates that all of these choices leave."""
        mask = self.everything
        for pair in picked.items():
            mask &= self.of[pair]
        return mask


_Place = tuple[int, int, bool]
"""How many axes are decided, the candidates that are left, and whether a GPU meets a driver."""


class _Walk:
    """The graph in the making; two ways to the same candidates share what comes after."""

    def __init__(
        self,
        axes: Sequence[Axis],
        masks: _Masks,
        catalog: Catalog,
    ) -> None:
        self._axes = axes
        self._masks = masks
        self._catalog = catalog
        self._known: dict[_Place, int] = {}
        self.nodes: list[tuple[int, ...]] = []
        self.stacks: dict[Stack, int] = {}  # and its number

    def node(self, depth: int, mask: int, picked: Picked) -> int:
        if not mask:
            return NOTHING
        # A stack for a GPU and a driver rests on one more fact, that they go together: its evidence may be weaker.
        has_pair = "gpu" in picked and "driver" in picked
        place = (depth, mask, has_pair)
        if place in self._known:
            return self._known[place]
        if depth == len(self._axes):
            number = self._end(picked)
        else:
            number = self._step(depth, mask, picked)
        self._known[place] = number
        return number

    def _step(self, depth: int, mask: int, picked: Picked) -> int:
        axis = self._axes[depth]
        children = []
        for choice in axis.choices:
            mask_of_choice = self._masks.of[axis.name, choice.value]
            child = self.node(
                depth + 1,
                mask & mask_of_choice,
                _with(picked, axis, choice.value),
            )
            children.append(child)
        number = len(self.nodes)
        self.nodes.append(tuple(children))
        return number

    def _end(self, picked: Picked) -> int:
        stack = resolve(request_of(picked), self._catalog)
        stack = replace(stack, gpu_features=())
        return self.stacks.setdefault(stack, len(self.stacks))


def _with(picked: Picked, axis: Axis, value: str) -> Picked:
    return {**picked, axis.name: value} if value != ANY else picked


def _minimal_clashes(axes: Sequence[Axis], masks: _Masks) -> list[Picked]:
    """Every set of choices that leaves nothing, while each set with one choice fewer leaves something."""
    return sorted(_search(axes, masks, {}, masks.everything), key=len)


def _search(
    axes: Sequence[Axis],
    masks: _Masks,
    picked: Picked,
    mask: int,
) -> Iterator[Picked]:
    """The minimal clashes of `picked`, which leaves `mask`, with choices of further axes."""
    for number, axis in enumerate(axes, 1):
        further = axes[number:]
        for choice in axis.choices[1:]:
            more = _with(picked, axis, choice.value)
            left = mask & masks.of[axis.name, choice.value]
            if left:
                yield from _search(further, masks, more, left)
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
    raise ValueError(
        f"the resolver has a stack for {dict(picked)}, and its index has none"
    )
