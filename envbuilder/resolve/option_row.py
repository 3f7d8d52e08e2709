"""One option of a request: all that the resolver knows of it, as a row of the table in `options`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.model import ANY, Request
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.refusal import Diagnosis, RequestedValue
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.resolve.rules import CandidateKey, Objection, Rule

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

    @property
    def shown_name(self) -> str:
        """The name in the conflict of a refusal."""
        return option_name(self.name)

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

    def nearest(self, allowed: Sequence[Candidate], rows: RequestRows) -> Candidate:
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
