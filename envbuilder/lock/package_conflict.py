"""Which of the user's packages clash with a stack, and what to try instead."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from requests import HTTPError

from envbuilder.errors import EngineError, LockError, NoStackError
from envbuilder.lock.index_answer import IndexAnswer, ask_index
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.known_sources import NO_SOURCES, KnownSources
from envbuilder.lock.python_bounds import all_allow_python
from envbuilder.lock.refusal_search import RefusalSearch
from envbuilder.lock.torch_index import FIND_LINKS, TorchIndex
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Stack
from envbuilder.resolve.torch_ranges import TorchRange

_FEW = 3  # constraints that a message names
_MOST_CAUSES = 6  # lines of uv's that a message has
_CONJUNCTION = re.compile(r"^(?:And )?[Bb]ecause ")
_SUBJECT = re.compile(r"\btorch\w*|\bPython|\bwheels?\b")
_VERB = re.compile(r"depends? on|requires?\b|\bwheels?\b|available|cannot")

CommandFor = Callable[[Sequence[str]], str]
"""The command that requests the same stack with these packages; "" if no command can."""


def _no_stacks() -> Iterable[tuple[str, Stack]]:
    return ()


def _no_ranges() -> Iterable[TorchRange]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageOrigin:
    """Where the packages of a stack are from, and what else could be requested, for the error if they clash."""

    places: Mapping[str, str] = field(
        default_factory=dict
    )  # package → "requirements.txt:12"
    ranges: Callable[[], Iterable[TorchRange]] = _no_ranges
    """Where another torch or another Python may do, the nearest first."""
    any_python: Callable[[], Iterable[tuple[str, Stack]]] = _no_stacks
    """The command for the same torch on each other Python, and its stack."""
    explain: bool = False  # all that uv says, not what a person needs of it

    def named(self, package: str) -> str:
        """`peft==0.4 (requirements.txt:12)`."""
        place = self.places.get(package)
        return f"{package} ({place})" if place else package


_UNKNOWN_ORIGIN = PackageOrigin()


def unresolved_error(
    uv: Uv,
    stack: Stack,
    answer: IndexAnswer,
    command_for: CommandFor,
    *,
    origin: PackageOrigin = _UNKNOWN_ORIGIN,
    known: KnownSources = NO_SOURCES,
) -> LockError | NoStackError:
    """What uv's failure means for the user: the stack itself has no wheels, or some extra packages clash with it."""
    unconstrained = replace(stack, constraints=())
    has_own = bool(stack.extras or stack.constraints)
    if not has_own or not _resolves(uv, unconstrained, stack.requirements, known):
        index = uv.index_for(stack)
        if index and uv.client:
            _check_page(index, uv.client)
        hint = _hint(index)
        message = f"there is no complete set of wheels for torch {stack.torch} here"
        return LockError(
            message,
            problems=answer.causes,
            hint=hint,
        )
    as_of = f"packages are resolved as of {stack.as_of}; torch and its family stay as they are"
    reasons = [*answer.causes, as_of]
    plain_reasons = [
        *(answer.causes if origin.explain else short_causes(answer)),
        as_of,
    ]
    every_package = [*stack.requirements, *stack.extras]
    if stack.constraints and _resolves(uv, unconstrained, every_package, known):
        return _constraints_error(stack, answer, reasons)
    stack = unconstrained
    culprits = _culprits(uv, stack, answer, known)
    search = RefusalSearch(uv=uv, known=known, packages=culprits, refused=stack)
    looks = search.looks()
    sentence = _pre_releases(uv, stack, search)
    for text in (*looks, sentence):
        if text:
            reasons.append(text)
    packages = " and ".join(origin.named(line) for line in culprits)
    commands, hint = _what_to_try(search, origin, command_for)
    return NoStackError(
        f"{packages} cannot be installed with {stack.torch_text} on Python {stack.python}",
        conflict=[("package", line) for line in culprits],
        reasons=reasons,
        plain_reasons=[*looks, *plain_reasons, *([sentence] if sentence else [])],
        suggestions=commands,
        hint=hint,
    )


def _what_to_try(
    search: RefusalSearch, origin: PackageOrigin, command_for: CommandFor
) -> tuple[list[str], str]:
    """The commands that can be locked, and the hint that has them: to leave a package out comes last."""
    commands = []
    texts = []
    for hit in search.hits(origin.ranges()):
        commands.append(hit.variant.command)
        texts.append(f"`{hit.variant.command}` ({hit.text})")
    if not texts:
        packages = _packages_to_try(search)
        command = command_for(packages)
        if command:
            commands.append(command)
            names = " and ".join(search.packages)
            kept = len(packages) == len(search.refused.extras)
            what = f"without the bounds of {names}" if kept else f"without {names}"
            texts.append(f"`{command}` ({what})")
    if texts:
        return commands, f"try {' or '.join(texts)}"
    names = " or ".join(origin.named(line) for line in search.packages)
    return [], f"change or leave out {names}"


def short_causes(answer: IndexAnswer) -> list[str]:
    """Of uv's derivation, which can have hundreds of lines, the last few that name torch, Python or wheels."""
    causes = answer.causes
    if len(causes) <= _MOST_CAUSES:
        return causes
    telling = []
    for line in causes:
        # What follows repeats what stands before.
        text, _, _ = line.partition(", we can conclude that")
        text = _CONJUNCTION.sub("", text)
        if _SUBJECT.search(text) and _VERB.search(text):
            telling.append(text)
    count = len(causes)
    telling = telling[-_MOST_CAUSES:]
    return [*telling, f"`--explain` prints all {count} lines of uv's derivation"]


def _constraints_error(
    stack: Stack, answer: IndexAnswer, reasons: Sequence[str]
) -> NoStackError:
    """The packages could be installed in other versions than the project's files allow."""
    culprits = _mentioned(stack.constraints, answer) or list(stack.constraints)
    few = culprits[:_FEW]
    more = "" if len(few) == len(culprits) else f" and {len(culprits) - len(few)} more"
    return NoStackError(
        f"the constraints {', '.join(few)}{more} leave no version that can be installed with {stack.torch_text}",
        conflict=[("constraint", line) for line in culprits],
        reasons=reasons,
        advice="loosen them in the project's files, or name the file without its lock",
    )


def first_that_resolves(
    uv: Uv, stacks: Iterable[tuple[str, Stack]], known: KnownSources
) -> str:
    """The command for the first stack for which everything has wheels that allow its Python; "" if there is none."""
    for command, other in stacks:
        requirements = [*other.requirements, *other.extras]
        answer = ask_index(uv, other, requirements, known=known)
        if answer.document is None:
            continue
        if all_allow_python(answer.document, other, uv.client):
            return command
    return ""


def _check_page(index: TorchIndex, client: IndexClient) -> None:
    """Raise `EngineError` if the page of torch does not open: uv only says that there is no torch."""
    try:
        client.page(index.page_of("torch"))
    except EngineError as error:
        cause = error.__cause__
        if not isinstance(cause, HTTPError):
            raise
        if cause.response.status_code != HTTPStatus.NOT_FOUND:
            raise


def _hint(index: TorchIndex | None) -> str:
    """What may be wrong with the address, where the user gave one."""
    if index is None:
        return ""
    hint = f"torch was looked for at {index.page_of('torch')}"
    if not index.flat:
        hint += f"; if the files are on one page: `--torch-index {FIND_LINKS}URL`"
    return hint


def _resolves(
    uv: Uv, stack: Stack, requirements: Sequence[str], known: KnownSources
) -> bool:
    return ask_index(uv, stack, requirements, known=known).document is not None


def _culprits(
    uv: Uv, stack: Stack, answer: IndexAnswer, known: KnownSources
) -> list[str]:
    """A smallest set of the user's packages that clashes: drop any one of it and the rest resolves."""
    needed = list(stack.extras)
    # Each try asks the index: begin with those that uv names, if they clash without the others.
    mentioned = _mentioned(needed, answer)
    if 0 < len(mentioned) < len(needed):
        requirements = [*stack.requirements, *mentioned]
        if not _resolves(uv, stack, requirements, known):
            needed = mentioned
    for line in list(needed):
        fewer = [other for other in needed if other != line]
        if not _resolves(uv, stack, [*stack.requirements, *fewer], known):
            needed = fewer
    return needed


def _mentioned(packages: Iterable[str], answer: IndexAnswer) -> list[str]:
    """The packages whose names uv gives as causes."""
    words = set(re.findall(r"[a-z0-9._-]+", " ".join(answer.causes).lower()))
    mentioned = []
    for line in packages:
        name = Requirement(line).name.lower()
        if {name, name.replace("_", "-")} & words:
            mentioned.append(line)
    return mentioned


def _packages_to_try(search: RefusalSearch) -> list[str]:
    """The packages with the culprits' version bounds dropped, if that resolves; else without the culprits."""
    stack = search.refused
    culprits = list(search.packages)
    kept = [line for line in stack.extras if line not in culprits]
    unbound = [_without_bounds(line) for line in culprits]
    if unbound == culprits:  # there was no bound to drop
        return kept
    packages = [*kept, *unbound]
    if search.can_lock(replace(stack, extras=tuple(packages)), unbound):
        return packages
    return kept


def _pre_releases(uv: Uv, stack: Stack, search: RefusalSearch) -> str:
    """A sentence on packages that could be installed as pre-releases, which are taken only if a line names one."""
    names = []
    packages = list(stack.extras)
    for line in search.packages:
        requirement = Requirement(line)
        if requirement.url or requirement.specifier.prereleases:
            continue
        if not search.has_pre_release(requirement):
            continue
        requirement.specifier &= SpecifierSet(">=0.dev0")
        packages[packages.index(line)] = str(requirement)
        names.append(canonicalize_name(requirement.name))
    if not names:
        return ""
    changed = replace(stack, extras=tuple(packages))
    requirements = [*stack.requirements, *packages]
    document = ask_index(uv, changed, requirements, known=search.known).document
    if document is None:
        return ""
    releases = []
    for package in document.get("packages", ()):
        if package["name"] in names and Version(package["version"]).is_prerelease:
            releases.append(f"{package['name']}>={package['version']}")
    if not releases:
        return ""
    options = " ".join(f"--package '{release}'" for release in releases)
    return f"there are only pre-releases that fit; to use one, name it: `{options}`"


def _without_bounds(line: str) -> str:
    """`xformers[cuda]==0.0.20` → `xformers[cuda]`."""
    requirement = Requirement(line)
    if requirement.url:  # another place would be another package
        return line
    requirement.specifier = SpecifierSet()
    return str(requirement)
