"""What to request instead, where the index has no set of wheels for a request: the nearest request that can be locked.

On PyPI each CUDA has one contiguous range of torches, so that one question about the range finds the torch that goes
with a package. If there is none on this Python, or an older release only, the next Python is asked.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder.errors import EngineError
from envbuilder.grammar import JsonObject
from envbuilder.lock.index_answer import ask_index
from envbuilder.lock.known_sources import KnownSources
from envbuilder.lock.package_look import look_at
from envbuilder.lock.project_page import ProjectPage, project_page
from envbuilder.lock.python_bounds import all_allow_python
from envbuilder.lock.release_age import OldRelease, Release, old_releases
from envbuilder.lock.torch_index import FAMILY
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Stack
from envbuilder.resolve.package_rules import project_of
from envbuilder.resolve.torch_ranges import TorchRange, Variant

MOST_QUESTIONS = 4  # to uv
_SECONDS = 5.0  # that a page may be silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A request that can be locked, and the releases of the packages in question that it gets."""

    variant: Variant
    releases: tuple[tuple[str, Version], ...]

    @property
    def text(self) -> str:
        """`vllm 0.33.0 on torch 2.14.0 for CUDA 13.0, Python 3.14`."""
        names = []
        for name, version in self.releases:
            names.append(f"{name} {version}")
        packages = " and ".join(names)
        stack = self.variant.stack
        moved = self.variant.moved
        text = f"{packages} with {stack.torch_text} on Python {stack.python}"
        if moved:
            text += f", in place of {moved}"
        return text


@dataclass(kw_only=True)
class RefusalSearch:
    """A search for a request that can be locked; it asks uv a few times at most."""

    uv: Uv
    known: KnownSources
    packages: Sequence[str]
    """The user's packages that clash."""
    refused: Stack
    questions: int = 0
    pages: dict[str, ProjectPage | None] = field(default_factory=dict)

    def hits(self, ranges: Iterable[TorchRange]) -> list[Hit]:
        """The first requests that can be locked, that with the newest release first. Raises `EngineError`."""
        hits: list[Hit] = []
        if self._has_unknown():
            return hits
        for torch_range in ranges:
            hit = self._look_in(torch_range)
            if hit is not None and _is_better(hit, hits):
                hits.append(hit)
            if hit is not None and self._is_final(hit):
                break
            if self.questions >= MOST_QUESTIONS:
                break
        hits.reverse()
        return hits

    def _has_unknown(self) -> bool:
        """Whether the index has no files of a package: no torch helps then."""
        for line in self.packages:
            requirement = Requirement(line)
            page = None if requirement.url else self._page(requirement.name)
            if page is not None and not page.files:
                return True
        return False

    def looks(self) -> list[str]:
        """What speaks against the newest release of each package: `vllm 0.33.0 needs torch==2.14.0, and …`."""
        texts = []
        for line in self.packages:
            requirement = Requirement(line)
            page = None if requirement.url else self._page(requirement.name)
            look = page and look_at(self.uv, self.refused, requirement, page)
            if look and look.text:
                texts.append(look.text)
        return texts

    def has_pre_release(self, requirement: Requirement) -> bool:
        """Whether a package has a pre-release within its bounds, as far as the index tells."""
        page = self._page(requirement.name)
        if page is None:
            return True
        for file in page.files:
            version = file.version
            inside = requirement.specifier.contains(version, prereleases=True)
            if version.is_prerelease and inside:
                return True
        return False

    def can_lock(self, stack: Stack, packages: Sequence[str]) -> bool:
        """Whether a stack with other bounds of the packages can be locked, without going back to what is far older."""
        document = self._ask(stack, _own_lines(stack))
        if document is None:
            return False
        other = replace(self, packages=packages, questions=self.questions)
        return other._is_allowed(stack, document)

    def _look_in(self, torch_range: TorchRange) -> Hit | None:
        torch, *others = torch_range.torches
        newest = torch_range.variant(torch)
        if newest is None:
            return None
        if not others:
            return self._look_at(newest)
        lines = _lines(newest.stack, torch_range)
        document = self._ask(newest.stack, lines)
        variant = _variant_in(document, torch_range)
        if variant is None or document is None:
            return None
        if _is_answer_for(variant.stack, newest.stack, document):
            return self._hit(variant, document)
        return self._look_at(variant)

    def _look_at(self, variant: Variant) -> Hit | None:
        """One request, in a question of its own; not what has just been refused."""
        stack = variant.stack
        if stack == self.refused:
            return None
        lines = _own_lines(stack)
        document = self._ask(stack, lines)
        return self._hit(variant, document)

    def _hit(self, variant: Variant, document: JsonObject | None) -> Hit | None:
        if document is None or not self._is_allowed(variant.stack, document):
            return None
        return Hit(variant=variant, releases=tuple(self._named(document)))

    def _ask(self, stack: Stack, lines: Sequence[str]) -> JsonObject | None:
        if self.questions >= MOST_QUESTIONS:
            return None
        self.questions += 1
        return ask_index(self.uv, stack, lines, known=self.known).document

    def _named(self, document: JsonObject) -> Iterator[tuple[str, Version]]:
        """The packages in question, with their releases."""
        releases = _releases(document)
        for line in self.packages:
            name = project_of(line)
            version = releases.get(name)
            if version is not None:
                yield name, version

    def _is_allowed(self, stack: Stack, document: JsonObject) -> bool:
        """Whether it would not be refused: for its Python, or as far older than a release without a wheel."""
        if not all_allow_python(document, stack, self.uv.client):
            return False
        for name, version in self._named(document):
            page = self._page(name)
            if page is None:
                return self._are_new(stack, document)
            if is_left_behind(page, version, self._bounds(name), stack):
                return False
        return True

    def _are_new(self, stack: Stack, document: JsonObject) -> bool:
        """The same for an index without pages in JSON: uv is asked."""
        self.questions += 1
        old = old_releases(self.uv, stack, document, self.known)
        return not any(release.is_far and release.lacks_wheel for release in old)

    def _is_final(self, hit: Hit) -> bool:
        """Whether no further request is worth a question: it has the newest releases, or moves the Python too."""
        if hit.variant.stack.python != self.refused.python:
            return True
        for name, version in hit.releases:
            page = self._page(name)
            if page is None:
                return False
            bounds = self._bounds(name).specifier
            newest = page.newest(bounds, hit.variant.stack.as_of)
            if newest is None or newest > version:
                return False
        return True

    def _bounds(self, name: str) -> Requirement:
        for line in self.packages:
            requirement = Requirement(line)
            if canonicalize_name(requirement.name) == name:
                return requirement
        return Requirement(name)

    def _page(self, name: str) -> ProjectPage | None:
        if name not in self.pages:
            self.pages[name] = None
            # uv has an answer: the page only tells more.
            with suppress(EngineError):
                self.pages[name] = project_page(self.uv, name, seconds=_SECONDS)
        return self.pages[name]


def _is_better(hit: Hit, hits: Sequence[Hit]) -> bool:
    """Whether it has newer releases than what was found before, which is nearer to the request."""
    return not hits or [v for _, v in hit.releases] > [v for _, v in hits[-1].releases]


def is_left_behind(
    page: ProjectPage, version: Version, requirement: Requirement, stack: Stack
) -> bool:
    """Whether the newest release has no wheel for a stack, and a version is far older."""
    newest = page.newest(requirement.specifier, stack.as_of)
    if newest is None or newest <= version:
        return False
    if any(file.fits(stack) for file in page.files_of(newest)):
        return False
    old = OldRelease(
        name=page.name,
        locked=Release(version=version, day=page.released(version)),
        newest=Release(version=newest, day=page.released(newest)),
    )
    return old.is_far


def _variant_in(document: JsonObject | None, torch_range: TorchRange) -> Variant | None:
    """The request with the torch that uv chose."""
    torch = _releases(document or {}).get("torch")
    return torch_range.variant(Version(torch.public)) if torch else None


def _own_lines(stack: Stack) -> list[str]:
    return [*stack.requirements, *stack.extras]


def _lines(stack: Stack, torch_range: TorchRange) -> list[str]:
    """The requirements of a stack with a range of torches. What stands first is chosen first: the user's packages."""
    lines = list(stack.extras)
    lines.append(f"torch{torch_range.specifier}")
    for line in stack.requirements:
        name = project_of(line)
        if name == "torch":
            continue
        is_of_family = name in FAMILY
        lines.append(name if is_of_family else line)
    return lines


def _is_answer_for(stack: Stack, asked: Stack, document: JsonObject) -> bool:
    """Whether an answer to another question is one for a stack too."""
    if (stack.as_of, stack.package_days) != (asked.as_of, asked.package_days):
        return False
    releases = _releases(document)
    for line in stack.requirements:
        requirement = Requirement(line)
        version = releases.get(canonicalize_name(requirement.name))
        if version is None:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def _releases(document: JsonObject) -> dict[str, Version]:
    releases: dict[str, Version] = {}
    for package in document.get("packages", ()):
        text = package.get("version")
        if text is None:
            continue
        name = canonicalize_name(package["name"])
        releases[name] = Version(text)
    return releases
