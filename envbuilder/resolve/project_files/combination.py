"""What becomes of each line of a project's files: an option, a package, or nothing, with the reason.

The command line and `envbuilder.toml` win over a file, and a sentence says so. Two files that contradict each other are
refused; within a Dockerfile the later command wins, as in the image that it makes.
"""

import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder import grammar
from envbuilder.model import ANY, Request
from envbuilder.resolve.option_row import option_name
from envbuilder.resolve.options import find_option
from envbuilder.resolve.package_pins import (
    agree,
    decided_by_stack,
    narrower,
    option_of,
    options_meant,
    package_beside,
)
from envbuilder.resolve.package_rules import marker_holds, parsed, python_fits
from envbuilder.resolve.parsers import parse_package
from envbuilder.resolve.project_files.statements import (
    FileLine,
    FileProblem,
    FileStatement,
    StatementKind,
    is_address,
    plain_url,
    problem,
    split_marker,
)
from envbuilder.resolve.system_packages import reason_against

_PYTHONS = tuple(Version(f"3.{minor}") for minor in range(7, 21))
_LONGEST_DETAIL = 300  # characters
_HASH = re.compile(r"#(?:.*&)?(?:md5|sha[0-9]+)=")
_OWN = frozenset({"torch", "torchvision", "transformers"})  # every stack has them
_BOUNDING = frozenset({"torch", "torchvision", "torchaudio", "transformers"})
_OF_TORCH = (
    "nvidia-cublas", "nvidia-cuda-cupti", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cudnn", "nvidia-cufft",
    "nvidia-cufile", "nvidia-curand", "nvidia-cusolver", "nvidia-cusparse", "nvidia-cusparselt", "nvidia-nccl",
    "nvidia-nvjitlink", "nvidia-nvshmem", "nvidia-nvtx", "pytorch-triton", "triton",
)  # fmt: skip


class Outcome(StrEnum):
    """What became of a line."""

    TAKEN = "taken"
    BECAME = "became"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAnswer:
    """What became of one line of a file, and why."""

    file: str
    line: int
    text: str
    outcome: Outcome
    detail: str = ""  # the option that it became, or the reason
    marker: str = ""  # that decides on some Pythons: judged once the stack is known


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChoice:
    """The value that a file gives an option."""

    value: str
    line: FileLine
    is_soft: bool
    overrides: bool
    answer: int  # the number of its answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line and the settings say: they win."""

    options: Mapping[str, str] = field(default_factory=dict)  # by name; may be "any"
    origins: Mapping[str, str] = field(default_factory=dict)  # "--torch"
    packages: Sequence[str] = ()
    platform: str = Request().platform


@dataclass(slots=True)
class ProjectRequest:
    """What a project's files ask for."""

    options: dict[str, FileChoice] = field(default_factory=dict)
    packages: dict[str, FileLine] = field(default_factory=dict)
    constraints: dict[str, FileLine] = field(default_factory=dict)
    requires_python: dict[str, FileLine] = field(default_factory=dict)
    bounds: dict[str, FileLine] = field(default_factory=dict)  # not installed
    index_url: str = ""
    system_packages: dict[str, FileLine] = field(default_factory=dict)
    answers: list[LineAnswer] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_neighbour: bool = False  # of files that nobody named: they yield

    @property
    def is_empty(self) -> bool:
        """Whether no file was read."""
        return not self.answers

    @property
    def soft_options(self) -> list[str]:
        """The options that only say what a file happens to have, cuDNN first."""
        names = [name for name, choice in self.options.items() if choice.is_soft]
        return sorted(names, key=lambda name: name != "cudnn")

    def sentences(self) -> list[str]:
        """What the files say, one sentence for each line that bounds the stack."""
        sentences = []
        for bounds, line in self.requires_python.items():
            sentences.append(f"{line.place} requires Python {bounds}")
        for name, choice in self.options.items():
            place = choice.line.place
            text = f"{name} {choice.value}"
            sentences.append(f"{place} has {text}")
        for text, line in self.bounds.items():
            place = line.place
            sentences.append(f"{place} has {text}")
        return sentences

    def without(self, names: Sequence[str], reason: str) -> "ProjectRequest":
        """The same without some of its options, which are answered with the reason."""
        answers = list(self.answers)
        options = dict(self.options)
        for name in names:
            dropped = options.pop(name)
            number = dropped.answer
            answers[number] = replace(
                answers[number],
                outcome=Outcome.LEFT_OUT,
                detail=reason,
            )
        return replace(self, options=options, answers=answers)

    def answers_for(self, platform: str, python: Version) -> list[LineAnswer]:
        """The answers once the Python is known: a package whose marker does not hold on it is left out."""
        answers = list(self.answers)
        for number, answer in enumerate(self.answers):
            marker = answer.marker
            if not marker:
                continue
            if marker_holds(marker, platform, python):
                continue
            answers[number] = replace(
                answer,
                outcome=Outcome.LEFT_OUT,
                detail=f"{marker} does not hold on Python {python}",
            )
        return answers


def combine(statements: Sequence[FileStatement], given: Given) -> ProjectRequest:
    """What the files ask for next to what is given. Raises `FileProblem` if they contradict each other."""
    combination = _Combination(given)
    for statement in statements:
        combination.add(statement)
    project = combination.project
    if project.problems:
        raise FileProblem("\n".join(project.problems))
    return project


def only_bounds(statements: Sequence[FileStatement]) -> list[FileStatement]:
    """Those that say which Python and which torch a project needs."""
    kept = []
    for statement in statements:
        if statement.kind is StatementKind.PYTHON:
            kept.append(statement)
        elif statement.kind is StatementKind.PACKAGE:
            name = statement.value if is_address(statement.value) else ""
            name = name or Requirement(statement.value).name
            if canonicalize_name(name) in _BOUNDING:
                kept.append(statement)
    return kept


class _Combination:
    """The statements so far."""

    def __init__(self, given: Given) -> None:
        self.project = ProjectRequest()
        self._given = given
        self._given_packages = {}
        for text in given.packages:
            # Even one with an address has its name in front.
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            self._given_packages[name] = text

    def add(self, statement: FileStatement) -> None:
        kind = statement.kind
        if kind is StatementKind.NOTHING:
            self._leave_out(statement.line, statement.value)
        elif kind is StatementKind.OPTION:
            self._add_option(statement, {statement.name: statement.value})
        elif kind is StatementKind.PYTHON:
            self._add_python(statement)
        elif kind is StatementKind.INDEX:
            self._add_index(statement)
        elif kind is StatementKind.SYSTEM_PACKAGE:
            self._add_system_package(statement)
        elif kind in (StatementKind.PACKAGE, StatementKind.CONSTRAINT):
            self._add_package(statement)
        else:
            self._answer(statement.line, Outcome.TAKEN, "its lines follow")

    def _answer(
        self, line: FileLine, outcome: Outcome, detail: str = "", marker: str = ""
    ) -> None:
        self.project.answers.append(
            LineAnswer(
                file=line.file,
                line=line.number,
                text=line.text,
                outcome=outcome,
                detail=grammar.one_line(detail, _LONGEST_DETAIL),
                marker=marker,
            )
        )

    def _leave_out(self, line: FileLine, reason: str) -> None:
        self._answer(line, Outcome.LEFT_OUT, reason)

    # --- options ---------------------------------------------------------------------------------------------------

    def _add_option(self, statement: FileStatement, values: Mapping[str, str]) -> None:
        """Options that one line means; one answer for all of them."""
        flags = []
        refusals = []
        for name, value in values.items():
            refusal = self._refusal(name, value, statement)
            if refusal:
                refusals.append(refusal)
            else:
                self._set(name, value, statement)
                flags.append(f"{_flag(name)} {value}")
        line = statement.line
        if not flags:
            self._leave_out(line, "; ".join(refusals))
            return
        became = " ".join(flags)
        detail = "; ".join([became, *refusals])
        self._answer(line, Outcome.BECAME, detail)

    def _refusal(self, name: str, value: str, statement: FileStatement) -> str:
        """Why an option of a file is not used; "" if it is."""
        given = self._given.options.get(name)
        winner = self._opposite_of(name)
        if given is None and not winner:
            return self._refusal_by_files(name, value, statement)
        if given == ANY:
            return f"{self._origin(name)} {ANY} is given"
        if given is not None and _agree(name, given, value):
            return ""
        winner = winner or f"{self._origin(name)} {given}"
        if not statement.is_soft:
            label = _flag(name)[2:]
            place = statement.line.place
            self.project.contradictions.append(
                f"{place} has {label} {value}; {winner} is used instead"
            )
        return f"{winner} is given"

    def _origin(self, name: str) -> str:
        return self._given.origins.get(name, _flag(name))

    def _opposite_of(self, name: str) -> str:
        """`--flavor cpu` of a CUDA, or the CUDA of flavour cpu, if it is given."""
        given = self._given.options
        flavour = given.get("flavour")
        is_of_cuda = name in ("cuda", "cudnn")
        if is_of_cuda and flavour == "cpu":
            origin = self._origin("flavour")
            return f"{origin} cpu"
        cuda = given.get("cuda")
        if name == "flavour" and cuda not in (None, ANY):
            origin = self._origin("cuda")
            return f"{origin} {cuda}"
        return ""

    def _refusal_by_files(self, name: str, value: str, statement: FileStatement) -> str:
        """Why an option is not used next to those of other lines; two that must both hold are a problem."""
        other_name = name
        if name == "flavour" and "cuda" in self.project.options:
            other_name = "cuda"
        elif name in ("cuda", "cudnn") and "flavour" in self.project.options:
            other_name = "flavour"
        other = self.project.options.get(other_name)
        if other is None:
            return ""
        if other_name == name and _agree(name, other.value, value):
            return ""
        place = other.line.place
        if statement.is_soft:
            return f"{place} has {other.value}"
        if other.is_soft or (other.overrides and statement.overrides):
            self._drop(other_name, f"{statement.line.place} has {value}")
            return ""
        self.project.problems.append(
            f"{statement.line.place} has {_flag(name)[2:]} {value}, and {place} has {other.value}"
        )
        return f"{place} has {other.value}"

    def _drop(self, name: str, reason: str) -> None:
        dropped = self.project.without([name], reason)
        self.project.options = dropped.options
        self.project.answers = dropped.answers

    def _set(self, name: str, value: str, statement: FileStatement) -> None:
        options = self.project.options
        given = self._given.options.get(name)
        other = options.get(name)
        is_soft = statement.is_soft
        if given is not None:
            value = narrower(given, value)
        if other is not None:
            value = narrower(other.value, value)
            is_soft = is_soft and other.is_soft
        number = len(self.project.answers)
        options[name] = FileChoice(
            value=value,
            line=statement.line,
            is_soft=is_soft,
            overrides=statement.overrides,
            answer=number,
        )

    # --- everything else -------------------------------------------------------------------------------------------

    def _add_python(self, statement: FileStatement) -> None:
        bounds = statement.value
        try:
            normal = str(SpecifierSet(bounds))
        except InvalidSpecifier:
            line = statement.line
            raise problem(line, "has no valid bounds of a version") from None
        given = self._given.options.get("python")
        if given and given != ANY and not _python_agrees(normal, given):
            sentence = f"{self._origin('python')} {given}"
            self.project.contradictions.append(
                f"{statement.line.place} requires Python {normal}; {sentence} is used instead"
            )
            self._leave_out(statement.line, f"{sentence} is given")
            return
        self.project.requires_python[normal] = statement.line
        self._answer(statement.line, Outcome.TAKEN, "bounds the Python")

    def _add_index(self, statement: FileStatement) -> None:
        if self._given.options.get("index_url"):
            self._leave_out(statement.line, "--index-url is given")
            return
        if self.project.index_url not in ("", statement.value):
            self._leave_out(statement.line, "another line names an index")
            return
        self.project.index_url = statement.value
        shown = grammar.one_line(plain_url(statement.value), 200)
        self._answer(statement.line, Outcome.BECAME, f"--index-url {shown}")

    def _add_system_package(self, statement: FileStatement) -> None:
        reason = reason_against(statement.value)
        if reason:
            self._leave_out(statement.line, reason)
            return
        self.project.system_packages[statement.value] = statement.line
        self._answer(statement.line, Outcome.BECAME, f"--apt {statement.value}")

    def _add_package(self, statement: FileStatement) -> None:
        if is_address(statement.value):
            self._add_address(statement)
            return
        requirement = copy(parsed(statement.value))
        if requirement.url:
            self._add_address(statement)
            return
        reason = self._reason_against(statement, requirement)
        if reason:
            self._leave_out(statement.line, reason)
            return
        try:
            meant = {} if requirement.marker else options_meant(requirement)
        except ValueError as error:
            self._leave_out(statement.line, str(error))
            return
        name = canonicalize_name(requirement.name)
        if meant:
            self._add_option(statement, meant)
            beside = package_beside(requirement)
            if beside:
                self._keep(statement, beside)
        elif _is_of_torch(name):
            self._leave_out(statement.line, "torch brings the one that it needs")
        elif name in _OWN and statement.value.lower() == name:
            self._answer(statement.line, Outcome.TAKEN, "the stack has it")
        else:
            self._add_plain(statement, requirement)

    def _reason_against(
        self, statement: FileStatement, requirement: Requirement
    ) -> str:
        """Why a package is not even looked at; "" if it is. A marker that always holds is dropped."""
        # packaging reads `===`, and markers of the kernel; the grammar of a request is closed.
        if not grammar.matches(grammar.Requirement, statement.value):
            return "its version or marker is not accepted"
        if requirement.marker:
            marker = str(requirement.marker)
            verdicts = _verdicts(marker, self._given.platform)
            if verdicts == {False}:
                return f"{marker} does not hold on {self._given.platform}"
            if verdicts == {True}:
                requirement.marker = None
        given = self._given_packages.get(canonicalize_name(requirement.name))
        return f"--package {given} is given" if given else ""

    def _add_plain(self, statement: FileStatement, requirement: Requirement) -> None:
        """A package that is no option, or a range of one that is."""
        line = statement.line
        contradicted = self._contradicted_range(requirement)
        if contradicted:
            self.project.contradictions.append(
                f"{line.place} has {requirement}; {contradicted} is used instead"
            )
            self._leave_out(line, f"{contradicted} is given")
            return
        text = str(requirement)
        marker = str(requirement.marker) if requirement.marker else ""
        self._keep(statement, text)
        detail = ""
        if statement.kind is StatementKind.CONSTRAINT:
            detail = "a bound, if something needs it"
        elif option_of(requirement.name) and requirement.specifier:
            detail = f"bounds the stack's {requirement.name}"
        elif statement.has_hash:
            # Those of pip-compile are of every file of the release, those of a person of one.
            detail = "its hash is not compared: the lock has its own"
        self._answer(line, Outcome.TAKEN, detail, marker)

    def _contradicted_range(self, requirement: Requirement) -> str:
        """The option that is given and that a range of torch, torchvision or transformers does not allow."""
        name = option_of(requirement.name)
        given = self._given.options.get(name or "")
        if name is None or given in (None, ANY):
            return ""
        try:
            both = requirement.specifier & SpecifierSet(f"=={given}.*")
            contradicts = both.is_unsatisfiable()
        except InvalidSpecifier:
            contradicts = False
        return f"{self._origin(name)} {given}" if contradicts else ""

    def _keep(self, statement: FileStatement, text: str) -> None:
        if statement.kind is StatementKind.CONSTRAINT:
            self.project.constraints[text] = statement.line
        else:
            self.project.packages[text] = statement.line

    def _add_address(self, statement: FileStatement) -> None:
        """A repository, a file or a folder: as far as `--package` takes it."""
        line = statement.line
        if statement.kind is StatementKind.CONSTRAINT:
            self._leave_out(line, "a constraint with an address")
            return
        place, marker = split_marker(statement.value)
        try:
            reason = self._reason_against_marker(marker)
            text = parse_package(place)
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
        except InvalidRequirement:
            self._leave_out(line, "a place that names no package")
            return
        except ValueError as error:
            self._leave_out(line, str(error))
            return
        reason = reason or decided_by_stack(requirement)
        given = self._given_packages.get(name)
        if given:
            reason = f"--package {given} is given"
        if reason:
            self._leave_out(line, reason)
            return
        self._keep(statement, text)
        has_hash = _HASH.search(place)
        detail = "the lock computes its hash again" if has_hash else ""
        self._answer(line, Outcome.TAKEN, detail)

    def _given_python(self) -> Version | None:
        """The Python X.Y that the command line or a line before decides on."""
        text = self._given.options.get("python")
        if text in (None, ANY):
            choice = self.project.options.get("python")
            text = choice.value if choice else ""
        match = re.match(r"[0-9]{1,4}\.[0-9]{1,4}", text or "")
        return Version(match[0]) if match else None

    def _reason_against_marker(self, marker: str) -> str:
        """Why a package with an address is left out for its marker; "" if it holds. A lock has no such markers."""
        if not marker:
            return ""
        try:
            normal = str(Marker(marker))
        except InvalidMarker:
            raise ValueError("its marker is not valid") from None
        platform = self._given.platform
        verdicts = _verdicts(normal, platform)
        python = self._given_python()
        if python:
            verdicts = frozenset({marker_holds(normal, platform, python)})
        if verdicts == {True}:
            return ""
        if verdicts == {False}:
            return f"{marker} does not hold on {self._given.platform}"
        return f"whether it is needed depends on the Python ({marker}): if it is, name it with `--package`"


@lru_cache(maxsize=1024)
def _verdicts(marker: str, platform: str) -> frozenset[bool]:
    """Whether a marker holds on a platform: on every Python, on none, or on some."""
    verdicts = set()
    for python in _PYTHONS:
        holds = marker_holds(marker, platform, python)
        verdicts.add(holds)
    return frozenset(verdicts)


def _is_of_torch(name: str) -> bool:
    """Whether torch needs a version of its own of it: `nvidia-cublas-cu12`, triton."""
    base, _, suffix = name.rpartition("-cu")
    return name in _OF_TORCH or (suffix.isdecimal() and base in _OF_TORCH)


def _flag(name: str) -> str:
    """`--flavor`, as the field spells it."""
    return "--flavor" if name == "flavour" else f"--{option_name(name)}"


def _agree(name: str, one: str, other: str) -> bool:
    """Whether two texts of an option can mean the same value."""
    option = find_option(name)
    texts = []
    for text in (one, other):
        try:
            texts.append(str(option.parse(text)) if option else text)
        except ValueError:
            return True  # whoever parses the request says what is wrong with it
    return agree(texts[0], texts[1])


def _python_agrees(bounds: str, given: str) -> bool:
    """Whether the given Python is within `requires-python`; what is no version is reported elsewhere."""
    minor = re.match(r"[0-9]{1,4}\.[0-9]{1,4}", given)
    if minor is None:
        return True
    version = Version(minor[0])
    return python_fits(bounds, version)
