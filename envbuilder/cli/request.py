"""The request of a command, from its options, the environment, the settings, or else this host."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from envbuilder.cli.session import load_catalog
from envbuilder.cli.settings import (
    REQUEST_OPTIONS,
    Options,
    is_from_environment,
    origin_of,
    settings,
    was_given,
)
from envbuilder.errors import UsageError
from envbuilder.resolve.options import option_name

if TYPE_CHECKING:
    from envbuilder.model import Request


def request_from(
    options: Options, *, host: bool = True, without: Collection[str] = ()
) -> "Request":
    """The request of the options, on top of the settings; if both are empty, one that fits this host.

    `without`: the settings that are left out.
    """
    from envbuilder.resolve.command_line import parse_request

    defaults = {
        name: value for name, value in settings().items() if name not in without
    }
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


def refuse_request_options(options: Options, *, allowed: Collection[str] = ()) -> None:
    """Raise `UsageError` if the command line gives options of a request next to a lock, which has decided them."""
    if not options.get("lock_file"):
        return
    names = {"package": "packages"}
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
