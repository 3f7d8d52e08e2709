"""The options of a request: all that the resolver knows of one is one row of one table.

Whatever has to go through the options (parsing, the candidate index, refusals, suggestions, settings) goes through
`OPTIONS`. To add one:

1. a field of `model.Request`, whose default asks for nothing;
2. a parser in `parsers.py`, and a rule in `rules.py` with the key of what decides its verdict;
3. its row here, and its `click.option` in `cli/shared_options.py`.

Then `tests/unit/test_rules.py` wants a value for it, and the oracle in `tests/oracle/` a rule of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import Version

from envbuilder.catalog.lookup import (
    known_builds,
    known_cuda,
    known_gpus,
    known_pythons,
    known_systems,
    tested_transformers,
)
from envbuilder.catalog.rows import Catalog
from envbuilder.grammar import PLATFORMS
from envbuilder.model import ANY, BASE_AUTO, BASE_BOOTSTRAP, Flavour, Request
from envbuilder.resolve import parsers, refusal, rules, suggest
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.refusal import Diagnosis, RequestedValue
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.resolve.rules import CandidateKey, Objection, Reason, Rule
from envbuilder.versions import driver_text, minor_line

DEFAULT_REQUEST = Request()


def option_name(field: str) -> str:
    """A field of the request as the command line spells it: `as_of` is `as-of`."""
    return field.replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a request."""

    # On the command line.
    name: str  # the field of `Request`; the flag has hyphens in it
    spellings: tuple[str, ...] = ()  # other names of the option
    parse: Callable[[str], object]
    format: Callable[[Any], str] = str

    # Which values there are, and which candidates each allows.
    known: Callable[[Catalog], Sequence[Any]] | None = (
        None  # oldest first; None: there is no list of them
    )
    rule: Rule
    key: CandidateKey  # covers all that decides the verdict; the wording may read more
    allowed_ranges: Callable[[RequestRows], Sequence[int]] | None = (
        None  # of drivers, by number; None: all
    )

    # What a refusal says of a value.
    phrase: str  # the option in a sentence: "CUDA {}"
    diagnose_unknown: Callable[[RequestedValue], Diagnosis | None] | None = (
        None  # None: every value can be judged
    )
    diagnose_unavailable: Callable[[RequestRows], Objection] | None = (
        None  # where nothing else is to blame
    )
    version_of: Callable[[Candidate], Version] | None = (
        None  # by which a person compares candidates, if by any
    )
    distance: Callable[[Candidate], Any] | None = (
        None  # smallest for the nearest miss; None: as policy prefers
    )

    # What to try instead.
    try_instead: Callable[[RequestRows, Candidate], Iterator[object]] | None = None
    advice: str = ""  # behind the command to try

    @property
    def default(self) -> object:
        """The value that asks for nothing, or for what most people want."""
        return getattr(DEFAULT_REQUEST, self.name)

    @property
    def flag(self) -> str:
        return f"--{option_name(self.name)}"

    def value_in(self, request: Request) -> object:
        return getattr(request, self.name)

    def set_in(self, request: Request, value: object) -> Request:
        """The request with another value of this option."""
        return replace(request, **{self.name: value})  # type: ignore[arg-type]

    def is_set(self, request: Request) -> bool:
        return self.value_in(request) != self.default

    def text_in(self, request: Request) -> str:
        """The value as the command line takes it."""
        return self.format(self.value_in(request))

    def phrase_in(self, request: Request) -> str:
        """`CUDA 11.7`."""
        return self.phrase.format(self.text_in(request))

    def nearest(self, allowed: Sequence[Candidate]) -> Candidate:
        """The nearest miss among candidates, best first, that only this option rejects."""
        return min(allowed, key=self.distance) if self.distance else allowed[0]

    def known_values(self, catalog: Catalog) -> Sequence[Any]:
        """The values that the catalog knows, oldest first; none for an option that takes any."""
        return self.known(catalog) if self.known else ()

    def diagnose(self, rows: RequestRows) -> Diagnosis | None:
        """Why the catalog cannot judge the value of a request."""
        request = rows.request
        if self.diagnose_unknown is None or not self.is_set(request):
            return None
        requested = RequestedValue(
            phrase=self.phrase_in(request),
            value=self.value_in(request),
            known=self.known_values(rows.catalog),
            rows=rows,
        )
        return self.diagnose_unknown(requested)

    @property
    def default_text(self) -> str:
        """What undoes the option where settings have it."""
        return str(self.default or ANY)


OPTIONS: tuple[Option, ...] = (
    Option(
        name="cuda",
        parse=parsers.parse_cuda,
        known=known_cuda,
        rule=rules.cuda_objection,
        key=rules.build_key,
        phrase="CUDA {}",
        diagnose_unknown=refusal.diagnose_unknown_line,
        diagnose_unavailable=refusal.diagnose_unavailable_cuda,
        version_of=lambda candidate: Version(candidate.cuda_line),
        try_instead=suggest.cuda_to_try,
    ),
    Option(
        name="cudnn",
        parse=parsers.parse_cudnn,
        known=lambda catalog: known_builds("cudnn", catalog),
        rule=rules.cudnn_objection,
        key=rules.build_key,
        phrase="cuDNN {}",
        diagnose_unknown=refusal.diagnose_unknown_line,
        version_of=lambda candidate: Version(minor_line(candidate.build.cudnn)),
        try_instead=suggest.cudnn_to_try,
    ),
    Option(
        name="python",
        parse=parsers.parse_version,
        known=known_pythons,
        rule=rules.python_objection,
        key=rules.python_key,
        phrase="Python {}",
        diagnose_unknown=refusal.diagnose_unknown_python,
        diagnose_unavailable=refusal.diagnose_unavailable_python,
        version_of=lambda candidate: candidate.python,
        try_instead=suggest.python_to_try,
    ),
    Option(
        name="torch",
        parse=parsers.parse_version,
        known=lambda catalog: known_builds("torch", catalog),
        rule=rules.torch_objection,
        key=rules.build_key,
        phrase="torch {}",
        diagnose_unknown=refusal.diagnose_unknown_version,
        version_of=lambda candidate: candidate.build.torch,
        try_instead=suggest.torch_to_try,
    ),
    Option(
        name="torchvision",
        parse=parsers.parse_version,
        known=lambda catalog: known_builds("torchvision", catalog),
        rule=rules.torchvision_objection,
        key=rules.build_key,
        phrase="torchvision {}",
        diagnose_unknown=refusal.diagnose_unknown_version,
        version_of=lambda candidate: candidate.build.torchvision,
        try_instead=suggest.torchvision_to_try,
    ),
    Option(
        name="transformers",
        parse=parsers.parse_version,
        known=tested_transformers,
        rule=rules.transformers_objection,
        key=rules.wheels_key,
        phrase="transformers {}",
        diagnose_unknown=refusal.diagnose_unknown_transformers,
        try_instead=suggest.transformers_to_try,
    ),
    Option(
        name="gpu",
        parse=parsers.parse_gpu,
        known=known_gpus,
        rule=rules.gpu_objection,
        key=rules.build_key,
        allowed_ranges=rules.ranges_of_gpu,
        phrase="GPU {}",
        diagnose_unknown=refusal.diagnose_unknown_gpu,
        diagnose_unavailable=refusal.diagnose_unavailable_gpu,
    ),
    Option(
        name="driver",
        parse=parsers.parse_version,
        format=driver_text,
        rule=rules.driver_objection,
        key=rules.build_key,
        allowed_ranges=rules.ranges_of_driver,
        phrase="driver {}",
        diagnose_unavailable=refusal.diagnose_unavailable_driver,
        distance=lambda candidate: Version(candidate.build.driver_floor),
        try_instead=suggest.drivers_to_try,
        advice="after upgrading the driver",
    ),
    Option(
        name="base",
        parse=parsers.parse_base,
        known=lambda _: (BASE_AUTO, BASE_BOOTSTRAP),
        rule=rules.base_objection,
        key=rules.glibc_key,
        phrase="--base {}",
        diagnose_unknown=refusal.diagnose_unusable_base,
    ),
    Option(
        name="os",
        parse=parsers.parse_os,
        known=known_systems,
        rule=rules.os_objection,
        key=rules.glibc_key,
        phrase="{}",
        diagnose_unknown=refusal.diagnose_unknown_os,
        diagnose_unavailable=refusal.diagnose_unavailable_os,
    ),
    Option(
        name="flavour",
        spellings=("flavor",),
        parse=parsers.parse_flavour,
        known=lambda _: tuple(Flavour),
        rule=rules.flavour_objection,
        key=rules.flavour_key,
        phrase="--flavour {}",
    ),
    Option(
        name="platform",
        parse=parsers.parse_platform,
        known=lambda _: PLATFORMS,
        rule=rules.platform_objection,
        key=rules.build_key,
        phrase="{}",
    ),
    Option(
        name="as_of",
        parse=parsers.parse_day,
        rule=rules.as_of_objection,
        key=rules.build_key,
        phrase="--as-of {}",
        diagnose_unavailable=refusal.diagnose_unavailable_day,
    ),
)

OPTION_NAMES: tuple[str, ...] = tuple(option.name for option in OPTIONS)


def find_option(name: str) -> Option | None:
    """The option of this name, in any of its spellings: `flavor` is flavour."""
    for option in OPTIONS:
        if name == option.name or name in option.spellings:
            return option
    return None


def objections_to(rows: RequestRows, candidate: Candidate) -> list[Reason]:
    """Every reason against a candidate; none if it answers the request."""
    every_rule: list[Rule] = [option.rule for option in OPTIONS]
    every_rule += [rules.glibc_objection, rules.driver_and_gpu_objection]
    reasons = []
    for rule in every_rule:
        objection = rule(rows, candidate)
        if objection is not None:
            reasons.append(objection)
    return reasons


def diagnose_unknown(rows: RequestRows) -> dict[str, Diagnosis]:
    """The options whose values the catalog cannot judge, and why. Unknown is not incompatible."""
    diagnoses = {}
    for option in OPTIONS:
        diagnosis = option.diagnose(rows)
        if diagnosis:
            diagnoses[option.name] = diagnosis
    return diagnoses
