"""The request of a command, from its options, the environment, the settings, or else this host."""

from typing import TYPE_CHECKING, Any

from envbuilder.cli.session import load_catalog
from envbuilder.cli.settings import (
    REQUEST_OPTIONS,
    Options,
    is_from_environment,
    origin_of,
    settings,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Request


def request_from(options: Options, *, host: bool = True) -> "Request":
    """The request of the options, on top of the settings; if both are empty, one that fits this host."""
    from envbuilder.resolve.command_line import parse_request

    defaults = settings()
    values: dict[str, Any] = {}
    for name in REQUEST_OPTIONS:
        value = options.get(name)
        values[name] = defaults.get(name) if value is None else value
    if host and all(value is None for value in values.values()):
        values |= _host_options(options)
    packages = options.get("packages") or defaults.get("package", ())
    try:
        return parse_request(values, packages)
    except UsageError as error:
        variables = _variables_used(REQUEST_OPTIONS)
        if not variables:
            raise
        problems = [*error.problems, f"set in the environment: {', '.join(variables)}"]
        raise UsageError(error.message, problems=problems, hint=error.hint) from error


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
