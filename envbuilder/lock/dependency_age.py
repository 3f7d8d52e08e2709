"""What is odd about the releases that nobody named: pre-releases among them, and what is years older than the newest.

Neither is refused, for a package may have nothing else, or may be needed in just this version; but nobody would see it.
"""

from collections.abc import Iterator, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder.grammar import JsonObject
from envbuilder.lock.release_age import OldRelease, Release, newest_alone, releases_in
from envbuilder.lock.torch_index import FAMILY
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_metadata import MetadataAnswer, WheelMetadata
from envbuilder.model import Stack
from envbuilder.resolve.package_rules import project_of

_OLD = 2 * 365  # days behind the newest release
_FEW = 3  # packages that a note names
_OF_TORCH = ("nvidia-", "cuda-", "triton")  # torch pins them


def dependency_notes(
    uv: Uv, stack: Stack, document: JsonObject, answer: MetadataAnswer
) -> Iterator[str]:
    """A line on pre-releases, and one on old releases, among what the user's packages brought."""
    if not stack.extras:
        return
    releases = releases_in(document, stack)
    locked = {}
    for name in _brought_by_user(stack, answer):
        if name in releases and not name.startswith(_OF_TORCH):
            locked[name] = releases[name]
    early = []
    for name, release in locked.items():
        if not release.version.is_prerelease:
            continue
        reason = _because(name, None, answer)
        early.append(f"{name} {release.version}{reason}")
    if early:
        yield f"a pre-release of a dependency is locked: {_few(early)}"
    old = []
    for item in _old_among(uv, stack, locked):
        reason = _because(item.name, item.newest.version, answer)
        old.append(f"{item.name} {item.locked.text}, not {item.newest.text}{reason}")
    if old:
        yield f"a dependency is locked in a release that is years old: {_few(old)}"


def _brought_by_user(stack: Stack, answer: MetadataAnswer) -> list[str]:
    """What the user's packages need, and what that needs, as far as it was read; not what anybody names."""
    named = _named(stack)
    found = []
    waiting = [project_of(line) for line in stack.extras]
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        if name not in named:
            found.append(name)
        for other in _needs(name, answer):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    found.sort()
    return found


def _needs(name: str, answer: MetadataAnswer) -> Iterator[str]:
    """The packages that a wheel needs, also with an extra: what of it is locked is looked up."""
    metadata = answer.by_package.get(name, WheelMetadata())
    for line in metadata.requires:
        requirement = _parsed(line)
        if requirement is not None:
            yield canonicalize_name(requirement.name)


def _named(stack: Stack) -> set[str]:
    """The packages that the stack or the user names."""
    names = set(FAMILY)
    for line in stack.requirements:
        names.add(project_of(line))
    for line in stack.extras:
        names.add(project_of(line))
    return names


def _old_among(
    uv: Uv, stack: Stack, locked: Mapping[str, Release]
) -> Iterator[OldRelease]:
    names = sorted(locked)
    newest = newest_alone(uv, stack, names)
    for name in names:
        other = newest.get(name)
        if other is None:
            continue
        old = OldRelease(
            name=name,
            locked=locked[name],
            newest=other,
        )
        if old.days > _OLD:
            yield old


def _because(name: str, newest: Version | None, answer: MetadataAnswer) -> str:
    """` (omegaconf needs antlr4-python3-runtime==4.9.*)`; "" if nothing that was read keeps it from the newest."""
    for package, metadata in answer.by_package.items():
        bounds = _bounds_in(metadata, name)
        if bounds is None:
            continue
        if newest and bounds.contains(newest, prereleases=True):
            continue
        return f" ({package} needs {name}{bounds})"
    return ""


def _bounds_in(metadata: WheelMetadata, name: str) -> SpecifierSet | None:
    """The bounds that a wheel has for a package; None if it does not need it."""
    for line in metadata.requires:
        requirement = _parsed(line)
        if requirement is None:
            continue
        if canonicalize_name(requirement.name) == name:
            return requirement.specifier
    return None


def _parsed(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _few(texts: list[str]) -> str:
    shown = texts[:_FEW]
    more = len(texts) - len(shown)
    if more:
        shown.append(f"and {more} more")
    return "; ".join(shown)
