"""The request of a command, from its options, the environment, the settings, or else this host."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.requirement_files import (
    project_request,
    remember_project,
    with_soft_options,
)
from envbuilder.cli.session import load_catalog
from envbuilder.cli.settings import (
    REQUEST_OPTIONS,
    Options,
    find_settings,
    is_from_environment,
    origin_of,
    project_folder,
    settings,
    was_given,
    working_folder,
)
from envbuilder.errors import NoStackError, UsageError
from envbuilder.model import ANY
from envbuilder.resolve.option_row import option_name
from envbuilder.resolve.options import find_option

if TYPE_CHECKING:
    from envbuilder.model import Request
    from envbuilder.resolve.project_files.combination import ProjectRequest

_ORIGINS = "envbuilder.origins"
"""Where the context keeps which values of the request the command line does not give, and who gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The options of a request that can be given several times."""

    packages: Sequence[str] = ()
    apt: Sequence[str] = ()
    companions: Sequence[str] = ()


def request_from(
    options: Options, *, host: bool = True, without: Collection[str] = ()
) -> "Request":
    """The request of the options, on top of the settings; if both are empty, one that fits this host.

    `without`: the settings that are left out.
    """
    from envbuilder.resolve.command_line import check_day, has_pins
    from envbuilder.resolve.request_rows import follow_gpu

    defaults = {
        name: value for name, value in settings().items() if name not in without
    }
    values: dict[str, Any] = {}
    for name in REQUEST_OPTIONS:
        value = options.get(name)
        values[name] = defaults.get(name) if value is None else value
    packages = _packages(options, defaults)
    apt = options.get("apt") or defaults.get("apt", ())
    companions = options.get("companions") or defaults.get("with", ())
    project = project_request(options, values, packages)
    if not without:
        _remember_origins(values, options, project)
    is_open = all(value is None for value in values.values())
    if host and is_open and not project.options and not has_pins(packages):
        values |= _host_options(options)
    try:
        lists = Lists(packages=packages, apt=apt, companions=companions)
        request = _parsed_request(values, lists, project, options)
        check_day(request, datetime.now(UTC).date())
        request = _completed(request, options)
        if request.gpu and values["platform"] in (None, ANY):
            return follow_gpu(request, load_catalog(options))
        return request
    except UsageError as error:
        hint = _own_help(error.hint)
        variables = _variables_used(REQUEST_OPTIONS)
        if not variables:
            raise UsageError(
                error.message, problems=error.problems, hint=hint
            ) from error
        problems = [*error.problems, f"set in the environment: {', '.join(variables)}"]
        raise UsageError(error.message, problems=problems, hint=hint) from error


def _parsed_request(
    values: Mapping[str, Any],
    lists: Lists,
    project: "ProjectRequest",
    options: Options,
) -> "Request":
    """The request of values and packages, with what the project's files ask for; raises `UsageError`."""
    from envbuilder.resolve.companion_table import with_companions

    def parse(changed: "ProjectRequest") -> "Request":
        request = request_of_project(values, lists, changed)
        if not request.packages:
            return request
        return with_companions(request, load_catalog(options))

    if not project.soft_options and not project.is_neighbour:
        request = parse(project)
    else:
        facts = load_catalog(options)
        project, request = with_soft_options(project, parse, facts)
    remember_project(project)
    return request


def request_of_project(
    values: Mapping[str, Any], lists: Lists, project: "ProjectRequest"
) -> "Request":
    """The request of values, packages and a project; where they agree, the project has the narrower value."""
    from envbuilder.resolve.command_line import parse_request

    merged = dict(values)
    for name, choice in project.options.items():
        merged[name] = choice.value
    # The same package may be given and in a file.
    every_package = list(dict.fromkeys([*lists.packages, *project.packages]))
    request = parse_request(
        merged,
        every_package,
        [*lists.apt, *project.system_packages],
        lists.companions,
    )
    every_line = {
        **project.packages,
        **project.bounds,
        **project.requires_python,
        **project.system_packages,
    }
    places = [(text, line.place) for text, line in every_line.items()]
    return replace(
        request,
        constraints=tuple(project.constraints),
        requires_python=",".join(project.requires_python),
        bounds=tuple(project.bounds),
        places=tuple(places),
    )


def _completed(request: "Request", options: Options) -> "Request":
    """The request with what the name of a custom base says; a refusal names the base as the origin of such a value."""
    from envbuilder.resolve.base_check import base_name_of
    from envbuilder.resolve.implied_options import complete_request

    if base_name_of(request) is None:
        return request
    completed = complete_request(request, load_catalog(options))
    context = click.get_current_context(silent=True)
    if context is not None:
        origins = context.meta.setdefault(_ORIGINS, {})
        for name in ("python", "cuda"):
            if getattr(request, name) != getattr(completed, name):
                origins[name] = f"the name of {request.base}"
    return completed


def _packages(options: Options, defaults: Options) -> list[str]:
    """The packages of the command line, else of the settings; a local folder gets the name of its package."""
    from envbuilder.lock.sources.folder_metadata import with_folder_name

    project = project_folder()
    given = options.get("packages")
    if given:
        start = working_folder()
        return [with_folder_name(text, start=start, project=project) for text in given]
    packages = []
    for text in defaults.get("package", ()):
        named = with_folder_name(text, start=project, project=project, inside=True)
        packages.append(named)
    return packages


def _own_help(hint: str) -> str:
    """The hint, naming the command that the user typed."""
    context = click.get_current_context(silent=True)
    path = context.command_path if context else "envbuilder resolve"
    return hint.replace("envbuilder resolve", path)


def _remember_origins(
    values: Mapping[str, Any], options: Options, project: "ProjectRequest"
) -> None:
    """Keep for `explain_origins` where the values come from that the command line does not give."""
    context = click.get_current_context(silent=True)
    found = find_settings()
    if context is None:
        return
    origins: dict[str, str] = {}
    for name, value in values.items():
        if is_from_environment(name):
            origins[option_name(name)] = origin_of(name)
        elif found and value is not None and options.get(name) is None:
            origins[option_name(name)] = found[0].name
    if found and found[1].get("package") and not options.get("packages"):
        origins["package"] = found[0].name
    if found and found[1].get("with") and not options.get("companions"):
        origins["with"] = found[0].name
    for name, choice in project.options.items():
        origins[option_name(name)] = choice.line.place
    context.meta[_ORIGINS] = origins


def explain_origins(error: NoStackError) -> None:
    """Add to a refusal which of its values come from the settings or the environment."""
    origins = click.get_current_context().meta.get(_ORIGINS, {})
    values = []
    for name, text in error.conflict:
        if name in origins:
            option = find_option(name)
            phrase = option.phrase.format(text) if option else f"{name} {text}"
            values.append(f"{phrase} ({origins[name]})")
    if values:
        line = f"not from the command line: {', '.join(values)}"
        error.problems = (*error.problems, line)


def refuse_request_options(options: Options, *, allowed: Collection[str] = ()) -> None:
    """Raise `UsageError` if the command line gives options of a request next to a lock, which has decided them."""
    if not options.get("lock_file"):
        return
    names = {"package": "packages", "apt": "apt", "requirements": "requirements"}
    names["with"] = "companions"
    names |= {option_name(name): name for name in REQUEST_OPTIONS}
    flags = []
    for word, name in names.items():
        if name not in allowed and was_given(options, name):
            flags.append(f"--{word}")
    if not flags:
        return
    flags.sort()
    verb = "has" if len(flags) == 1 else "have"
    raise UsageError(
        f"{' and '.join(flags)} {verb} no effect with --lock: the lock has decided it",
        hint=f"leave out --lock to request another stack, or leave out {' and '.join(flags)}",
    )


def _variables_used(names: tuple[str, ...]) -> list[str]:
    return [origin_of(name) for name in names if is_from_environment(name)]


def _host_options(options: Options) -> dict[str, str]:
    """The request that fits this host, for a user who gives no option; says so."""
    from envbuilder.console import complain
    from envbuilder.doctor import request_for_host

    facts = load_catalog(options)
    values, sentence = request_for_host.request_options_for(
        request_for_host.ask(facts), facts
    )
    complain(sentence)
    return values
