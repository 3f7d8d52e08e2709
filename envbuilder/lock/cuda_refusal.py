"""What to request instead of a package that is built for another CUDA: each suggestion has been locked here before."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from envbuilder.errors import EnvbuilderError, LockError, NoStackError
from envbuilder.grammar import JsonObject
from envbuilder.lock.cuda_clash import (
    NAME_TAG,
    CudaClash,
    built_for,
    cuda_clashes,
    of_extras,
    stack_text,
)
from envbuilder.lock.index_answer import ask_index
from envbuilder.lock.known_sources import KnownSources
from envbuilder.lock.python_bounds import all_allow_python
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_libraries import LinkAnswer, LinkReader
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import SCHEMA, Lock, Stack, Wheel

_ROUNDS = 10  # minor lines of a package that are looked at
_MOST_STACKS = 3  # of another CUDA that are tried
_LOWER = (">=", ">", "!=")  # bounds that are kept

OfCuda = Callable[[int], Iterable[tuple[str, Stack]]]
"""CUDA major → the command for the same request with a stack of it, and that stack; the preferred ones first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaLinks:
    """How to find out what wheels link to, and what else could be requested."""

    reader: LinkReader
    of_cuda: OfCuda


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaSearch:
    """Looks for a request with which the packages and CUDA fit."""

    uv: Uv
    known: KnownSources
    links: CudaLinks
    command_for: Callable[[Sequence[str]], str]

    def refuse(self, lock: Lock, clashes: Sequence[CudaClash]) -> NoStackError:
        """The packages, the CUDA that they are built for, and commands that work."""
        stack = lock.stack
        texts = [clash.text for clash in clashes]
        names = [clash.wheel.name for clash in clashes]
        suggestion = self._other_packages(lock, clashes)
        if not suggestion:
            suggestion = self._with_their_cuda(clashes)
        advice = ""
        if not suggestion:
            advice = f"choose another version of {' and '.join(names)}, or leave it out"
        conflict = []
        if stack.cuda:
            conflict.append(("cuda", stack.cuda_line))
        for line in _lines_of(names, stack):
            conflict.append(("package", line))
        return NoStackError(
            f"{texts[0]}, and {stack_text(stack, clashes)}",
            conflict=conflict,
            reasons=texts,
            problems=texts[1:],
            suggestions=[suggestion] if suggestion else [],
            advice=advice,
        )

    # --- another package for this stack ----------------------------------------------------------------------------

    def _other_packages(self, lock: Lock, clashes: Sequence[CudaClash]) -> str:
        """The command with another release, or another name, of the packages that clash; "" if none fits."""
        stack = lock.stack
        by_name = {clash.wheel.name: clash for clash in clashes}
        if not by_name.keys() <= of_extras(lock):
            return ""  # another package requires it
        lines = []
        for line in stack.extras:
            clash = by_name.get(_name_in(line))
            if clash is None:
                lines.append(line)
                continue
            changed = self._fitting_line(line, clash, stack)
            if changed is None:
                return ""
            lines.append(changed)
        changed_stack = replace(stack, extras=tuple(lines))
        return self.command_for(lines) if self.is_sound(changed_stack) else ""

    def _fitting_line(self, line: str, clash: CudaClash, stack: Stack) -> str | None:
        if Requirement(line).url:
            return None
        renamed = renamed_for(line, stack)
        if renamed:
            return renamed
        cuda = stack.cuda
        if cuda is None or not clash.majors or min(clash.majors) < cuda.major:
            return None  # what is older is for an older CUDA
        return self._older_line(line, clash, stack)

    def _older_line(self, line: str, clash: CudaClash, stack: Stack) -> str | None:
        """The line with an upper bound, below which the newest release is built for the stack's CUDA."""
        wheel = clash.wheel
        for _ in range(_ROUNDS):
            bound = below_line(line, wheel.version.release)
            if bound is None:
                return None
            found = self._newest(bound, stack)
            if found is None:
                return None
            majors, wheel = found
            # Without anything compiled it would have no kernels at all.
            if wheel.file.endswith("-any.whl"):
                return None
            if not majors or (stack.cuda and stack.cuda.major in majors):
                return bound
            if stack.cuda and max(majors) < stack.cuda.major:
                return None
        return None

    def _newest(self, line: str, stack: Stack) -> tuple[tuple[int, ...], Wheel] | None:
        """The newest release of a package by itself, and the CUDA that it is built for."""
        alone = replace(stack, extras=(line,), requirements=())
        answer = ask_index(
            self.uv,
            alone,
            [line],
            alone=True,
            known=self.known,
        )
        if answer.document is None:
            return None
        read = self._read(answer.document, alone)
        if read is None:
            return None
        lock, links = read
        sonames: list[str] = []
        for _, linked in links.linked:
            sonames.extend(linked.cuda)
        majors = built_for(sonames)
        wheel = lock.wheels[0]
        return majors, wheel

    # --- another CUDA ----------------------------------------------------------------------------------------------

    def _with_their_cuda(self, clashes: Sequence[CudaClash]) -> str:
        """The command for a stack of the CUDA that the packages are built for, if everything locks there."""
        majors = set(clashes[0].majors)
        for clash in clashes[1:]:
            majors &= set(clash.majors)
        for major in sorted(majors, reverse=True):
            stacks = islice(self.links.of_cuda(major), _MOST_STACKS)
            for command, other in stacks:
                if self.is_sound(other):
                    return command
        return ""

    # --- whether it locks ------------------------------------------------------------------------------------------

    def is_sound(self, stack: Stack) -> bool:
        """Whether a stack with its packages resolves, and nothing in it is for another Python or CUDA."""
        requirements = [*stack.requirements, *stack.extras]
        answer = ask_index(
            self.uv,
            stack,
            requirements,
            known=self.known,
        )
        if answer.document is None:
            return False
        if not all_allow_python(answer.document, stack, self.uv.client):
            return False
        read = self._read(answer.document, stack)
        return read is not None and not cuda_clashes(*read)

    def _read(
        self, document: JsonObject, stack: Stack
    ) -> tuple[Lock, LinkAnswer] | None:
        try:
            wheels = select_wheels(document, stack)
        except LockError:
            return None
        lock = Lock(
            schema=SCHEMA,
            catalog="",
            stack=stack,
            base_digest=None,
            wheels=wheels,
        )
        try:
            return lock, self.links.reader.read(lock, document)
        except EnvbuilderError:
            return None


def renamed_for(line: str, stack: Stack) -> str:
    """`cupy-cuda12x` → `cupy-cuda13x`; "" for a package whose name has no CUDA."""
    requirement = Requirement(line)
    name = canonicalize_name(requirement.name)
    tag = NAME_TAG.search(name)
    if tag is None or stack.cuda is None:
        return ""
    word, _, minor, end = tag.groups()
    number = str(stack.cuda.major)
    if minor:
        number += "0"
    before = name[: tag.start()]
    after = name[tag.end() :]
    requirement.name = f"{before}-{word}{number}{end}{after}"
    requirement.specifier = SpecifierSet()
    return str(requirement)


def below_line(line: str, release: Sequence[int]) -> str | None:
    """A line bounded below the minor line of a release: `x<1.31` for 1.31.1."""
    numbers = list(release[:2])
    if not any(numbers):  # 0.0.35
        numbers = list(release[:3])
    if not any(numbers):
        return None
    bound = ".".join(str(number) for number in numbers)
    requirement = Requirement(line)
    kept = [f"<{bound}"]
    for part in requirement.specifier:
        if part.operator in _LOWER:
            text = str(part)
            kept.append(text)
    requirement.specifier = SpecifierSet(",".join(kept))
    return str(requirement)


def _lines_of(names: Sequence[str], stack: Stack) -> Sequence[str]:
    """The user's packages of these names; all of them, if it is another that requires what clashes."""
    lines = []
    for line in stack.extras:
        name = _name_in(line)
        if name in names:
            lines.append(line)
    return lines or stack.extras


def _name_in(line: str) -> str:
    requirement = Requirement(line)
    return canonicalize_name(requirement.name)
