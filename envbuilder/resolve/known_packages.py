"""Which packages of a request the catalog does not know: only an index can tell whether they go with a stack."""

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request, Stack
from envbuilder.resolve.companion_table import with_companions
from envbuilder.resolve.package_rules import has_rule, marker_holds, project_of


def unknown_packages(
    request: Request, stack: Stack, catalog: Catalog
) -> list[Requirement]:
    """The user's packages, without companions, those of the project's files, and those that the stack has anyway."""
    named = {project_of(line) for line in stack.requirements}
    of_files = {text for text, _ in request.places}
    unknown = []
    for text in with_companions(request, catalog).packages:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if requirement.url or has_rule(name) or name in named:
            continue
        if text not in of_files and _is_for(requirement, stack):
            unknown.append(requirement)
    return unknown


def _is_for(requirement: Requirement, stack: Stack) -> bool:
    marker = requirement.marker
    if marker is None:
        return True
    return marker_holds(str(marker), stack.platform, stack.python)
