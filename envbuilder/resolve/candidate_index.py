"""Bitmap index: which candidates each value of an option allows, as the bits of one number, its mask.

A request is the AND of its masks, so the whole grid of requests costs one AND a cell.

Whether a driver supports a GPU depends on two options and on no candidate, and so would be no AND. Therefore a mask
holds all N candidates once for each range of drivers that support the same GPUs (`driver_range_starts`): bit
`range · N + n` is candidate n with the drivers of that range. A GPU keeps the ranges that support it, a driver its own,
and what is left of both is in a range that does.

The lowest bit of an AND is its best candidate: candidates stand best first, and every range that is left has the same
ones, because an option allows the same candidates in each range that it allows at all.
"""

from array import array
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import prod

from packaging.requirements import Requirement

from envbuilder.catalog.gpus import driver_range_starts
from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request
from envbuilder.resolve.candidates import Candidate, catalog_candidates
from envbuilder.resolve.companion_facets import context_of
from envbuilder.resolve.companion_masks import CompanionMasks
from envbuilder.resolve.companion_option import PREFIX
from envbuilder.resolve.option_row import DEFAULT_REQUEST, Option
from envbuilder.resolve.options import OPTIONS
from envbuilder.resolve.package_rules import (
    has_rule,
    package_objection,
    parsed,
    requires_python_objection,
)
from envbuilder.resolve.request_rows import RequestRows, look_up
from envbuilder.resolve.rules import (
    CandidateKey,
    Rule,
    glibc_key,
    glibc_objection,
    python_key,
    wheels_key,
)

REFUSED = -1
_ALL = -1  # as a mask: every bit

Groups = list[tuple[Candidate, int]]
"""One of the candidates that a rule cannot tell apart, and the mask of all of them, for each such group."""
OptionText = tuple[str, str]
"""An option's name and the text of its value."""


class CandidateIndex:
    """The candidates of one catalog, and which of them each value of each option allows."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.candidates = catalog_candidates(catalog)
        self._groups: dict[CandidateKey, Groups] = {}
        self._masks: dict[OptionText, int] = {}
        self._every_range: Sequence[int] = range(len(driver_range_starts(catalog)))
        self._companions = CompanionMasks(
            catalog,
            self._group_by,
            lambda mask: self._in_ranges(mask, self._every_range),
        )
        self.always = self._always()

    def _always(self) -> int:
        """The candidates that can run at all, which no option decides."""
        rows = look_up(DEFAULT_REQUEST, self.catalog)
        runnable = self._passing(glibc_objection, glibc_key, rows)
        return self._in_ranges(runnable, self._every_range)

    def mask_for(self, option: Option, value: object) -> int:
        """The candidates that `value` allows; None asks for nothing."""
        if value is None:
            return _ALL
        # By its text: 2.0 and 2.0.0 are equal versions, and ask for different things.
        key = (option.name, str(value))
        if key not in self._masks:
            self._masks[key] = self._new_mask(option, value)
        return self._masks[key]

    def _new_mask(self, option: Option, value: object) -> int:
        request = option.set_in(DEFAULT_REQUEST, value)
        rows = look_up(request, self.catalog)
        passing = self._passing(option.rule, option.key, rows)
        ranges = self._every_range
        if option.allowed_ranges:
            ranges = option.allowed_ranges(rows)
        return self._in_ranges(passing, ranges)

    def matching(self, request: Request, names: Collection[str] | None = None) -> int:
        """The candidates that a request allows, as if it set only the options of these names."""
        mask = self.matching_on_any_glibc(request, names)
        return mask & self.always

    def matching_on_any_glibc(
        self, request: Request, names: Collection[str] | None = None
    ) -> int:
        """The same, with candidates that need a newer glibc than their base has."""
        mask = _ALL
        for option in OPTIONS:
            value = option.default
            if names is None or option.name in names:
                value = option.value_in(request)
            mask &= self.mask_for(option, value)
        if mask and request.companions:
            mask &= self._mask_for_companions(request, names)
        return mask

    def _mask_for_companions(
        self, request: Request, names: Collection[str] | None
    ) -> int:
        companions = [
            text
            for text in request.companions
            if names is None or f"{PREFIX}{text}" in names
        ]
        context = context_of(request, self.catalog, names)
        return self._companions.mask_for(companions, context)

    def best(self, request: Request) -> Candidate | None:
        """The candidate that policy prefers among those that match and that the project's packages allow."""
        mask = self.matching(request)
        if mask:
            mask &= self.mask_for_packages(request)
        return self.first(mask)

    def mask_for_packages(self, request: Request) -> int:
        """The candidates that a request's packages and its project's Python allow."""
        mask = _ALL
        for text in (*request.packages, *request.bounds):
            requirement = parsed(text)
            if has_rule(requirement.name):
                mask &= self._mask_for_package(text, requirement)
        if request.requires_python:
            mask &= self._mask_for_python(request)
        return mask

    def _mask_for_package(self, text: str, requirement: Requirement) -> int:
        key = ("package", text)
        if key not in self._masks:
            passing = 0
            for candidate, group in self._group_by(wheels_key):
                if package_objection(text, requirement, candidate) is None:
                    passing |= group
            self._masks[key] = self._in_ranges(passing, self._every_range)
        return self._masks[key]

    def _mask_for_python(self, request: Request) -> int:
        key = ("requires-python", request.requires_python)
        if key not in self._masks:
            passing = 0
            for candidate, group in self._group_by(python_key):
                if requires_python_objection(request, candidate) is None:
                    passing |= group
            self._masks[key] = self._in_ranges(passing, self._every_range)
        return self._masks[key]

    def first(self, mask: int) -> Candidate | None:
        """The best candidate of a mask."""
        if not mask:
            return None
        number = _lowest_bit(mask) % len(self.candidates)  # without its range
        return self.candidates[number]

    def candidates_in(self, mask: int) -> list[Candidate]:
        """The candidates of a mask, best first."""
        size = len(self.candidates)
        one_range = (1 << size) - 1
        in_any_range = 0
        while mask:
            in_any_range |= mask & one_range
            mask >>= size
        candidates = []
        while in_any_range:
            number = _lowest_bit(in_any_range)
            candidates.append(self.candidates[number])
            in_any_range ^= 1 << number
        return candidates

    def grid(self, axes: Mapping[str, Sequence[object]]) -> "array[int]":
        """The answer to every combination of values, in the order of `itertools.product`.

        Each is the number of a candidate, or `REFUSED`.
        """
        mask = self.always
        by_name = {}
        for option in OPTIONS:
            by_name[option.name] = option
            if option.name not in axes:
                mask &= self.mask_for(option, option.default)
        masks = []
        for name, values in axes.items():
            option = by_name[name]
            masks_of_axis = [self.mask_for(option, value) for value in values]
            masks.append(masks_of_axis)
        return _fill(
            mask,
            masks,
            size=len(self.candidates),
            finished={},
        )

    def _passing(self, rule: Rule, key: CandidateKey, rows: RequestRows) -> int:
        """The candidates that a rule has nothing against: it is asked once for each group."""
        mask = 0
        for candidate, group in self._group_by(key):
            objection = rule(rows, candidate)
            if objection is None:
                mask |= group
        return mask

    def _group_by(self, key: CandidateKey) -> Groups:
        """One candidate for each value of a key, and the mask of all that share the value."""
        if key not in self._groups:
            firsts: dict[Hashable, Candidate] = {}
            masks: dict[Hashable, int] = {}
            bit = 1
            for candidate in self.candidates:
                value = key(candidate)
                firsts.setdefault(value, candidate)
                masks[value] = masks.get(value, 0) | bit
                bit <<= 1
            pairs = zip(firsts.values(), masks.values(), strict=True)
            self._groups[key] = list(pairs)
        return self._groups[key]

    def _in_ranges(self, mask: int, ranges: Iterable[int]) -> int:
        """The same candidates in each of these ranges of drivers."""
        size = len(self.candidates)
        repeated = 0
        for number in ranges:
            offset = number * size
            repeated |= mask << offset
        return repeated


def _lowest_bit(mask: int) -> int:
    """The number of the lowest bit that is set."""
    return (mask & -mask).bit_length() - 1


Answers = dict[tuple[int, int], "array[int]"]
"""The answers below each prefix, by the mask that it leaves and by the number of axes that are left."""


def _fill(
    mask: int,
    axes: Sequence[Sequence[int]],
    size: int,
    finished: Answers,
) -> "array[int]":
    """The answers below one prefix of the grid.

    Most prefixes leave the same few candidates, and those have the same answers: `finished` makes millions cheap.
    """
    key = (mask, len(axes))
    if key in finished:
        return finished[key]
    answers = array("i")
    if not mask:
        cells = prod(map(len, axes))
        answers = array("i", [REFUSED]) * cells
    elif axes:
        for value in axes[0]:
            answers.extend(_fill(mask & value, axes[1:], size, finished))
    else:
        answers.append(_lowest_bit(mask) % size)
    finished[key] = answers
    return answers


@lru_cache(maxsize=4)
def index_for(catalog: Catalog) -> CandidateIndex:
    """The index of a catalog, made once."""
    return CandidateIndex(catalog)
