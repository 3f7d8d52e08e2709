"""Which candidates an option leaves, as bits of one number each: the first bit that all of them leave is the answer.

Bit n is candidate n, and candidates stand best first. So a request is answered by a few ANDs, and the whole grid of
requests by one AND a cell. Whether a driver knows a GPU depends on two options and no candidate: therefore all of the
candidates stand there once for each era of drivers, and a GPU and a driver leave those of their eras.
"""

from array import array
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from math import prod

from envbuilder.catalog.gpus import eras
from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request
from envbuilder.resolve.candidates import Candidate, catalog_candidates
from envbuilder.resolve.rules import RULES, Rule, Subject, eras_left

_RULED = {option for option, _, _ in RULES}
OPTIONS = tuple(field.name for field in fields(Request) if field.name in _RULED)
"""Every field of a request that narrows the choice."""
_ANY = Request()
DEFAULTS: Mapping[str, object] = {option: getattr(_ANY, option) for option in OPTIONS}
REFUSED = -1


class Choice:
    """The candidates of one catalog, and what each value of each option leaves of them."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.candidates = catalog_candidates(catalog)
        self._rules = {option: (rule, subject) for option, rule, subject in RULES}
        self._sides: dict[Subject, list[tuple[Candidate, int]]] = {}
        self._masks: dict[tuple[str, str], int] = {}
        self.sound = self.in_eras(self._ask(*self._rules[""], _ANY), range(len(eras(catalog))))  # no option decides it

    def left(self, option: str, value: object) -> int:
        """The candidates that `value` leaves; None asks for nothing."""
        if value is None:
            return -1
        said = (option, str(value))  # as text: 2.0 and 2.0.0 are equal versions, and ask for different things
        if said not in self._masks:
            request = replace(_ANY, **{option: value})  # type: ignore[arg-type]
            alike = self._ask(*self._rules[option], request)
            self._masks[said] = self.in_eras(alike, eras_left(option, value, self.catalog))
        return self._masks[said]

    def in_eras(self, mask: int, numbers: Iterable[int]) -> int:
        """The same candidates in each of these eras of drivers."""
        return sum(mask << number * len(self.candidates) for number in numbers)

    def fitting(self, request: Request, options: Collection[str] = OPTIONS) -> int:
        """The candidates that a request leaves, as if it had only these options."""
        left = self.sound
        for option in OPTIONS:
            left &= self.left(option, getattr(request, option) if option in options else DEFAULTS[option])
        return left

    def best(self, request: Request, options: Collection[str] = OPTIONS) -> Candidate | None:
        """The candidate that policy prefers among those that fit."""
        return self.first(self.fitting(request, options))

    def first(self, left: int) -> Candidate | None:
        """The best of those that are left."""
        return self.candidates[_first(left) % len(self.candidates)] if left else None

    def grid(self, axes: Mapping[str, Sequence[object]]) -> "array[int]":
        """The answer to every combination of values, in the order of `itertools.product`.

        Each is the number of a candidate, or `REFUSED`.
        """
        left = self.sound
        for option in OPTIONS:
            left &= -1 if option in axes else self.left(option, DEFAULTS[option])
        masks = [[self.left(option, value) for value in values] for option, values in axes.items()]
        return _fill(left, masks, len(self.candidates), {})

    def _ask(self, rule: Rule, subject: Subject, request: Request) -> int:
        mask = 0
        for candidate, bits in self._sides_of(subject):
            if rule(request, candidate, self.catalog) is None:
                mask |= bits
        return mask

    def _sides_of(self, subject: Subject) -> list[tuple[Candidate, int]]:
        """One candidate of each side, and all that share the side."""
        if subject not in self._sides:
            alike: dict[Hashable, list[int]] = defaultdict(list)
            for number, candidate in enumerate(self.candidates):
                alike[subject(candidate)].append(number)
            self._sides[subject] = [
                (self.candidates[numbers[0]], sum(1 << number for number in numbers)) for numbers in alike.values()
            ]
        return self._sides[subject]


def _first(left: int) -> int:
    """The number of the lowest bit."""
    return (left & -left).bit_length() - 1


def _fill(
    left: int, axes: Sequence[Sequence[int]], size: int, known: dict[tuple[int, int], "array[int]"]
) -> "array[int]":
    """The answers below one prefix; prefixes that leave the same candidates have the same answers."""
    place = (left, len(axes))
    if place not in known:
        if not left:
            known[place] = array("i", [REFUSED]) * prod(map(len, axes))
        elif not axes:
            known[place] = array("i", [_first(left) % size])
        else:
            known[place] = array("i")
            for bits in axes[0]:
                known[place].extend(_fill(left & bits, axes[1:], size, known))
    return known[place]


@lru_cache(maxsize=4)
def choice(catalog: Catalog) -> Choice:
    """Made once per catalog."""
    return Choice(catalog)
