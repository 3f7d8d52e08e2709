"""What a person may have meant: an option without its value, a misspelt option, a misspelt variable."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence, Set

import click

from envbuilder.cli.settings import REQUEST_OPTIONS, variable_of

_PREFIX = "ENVBUILDER_"
_VARIABLES = frozenset(
    {
        *(variable_of(name) for name in (*REQUEST_OPTIONS, "flavor")),
        *("ENVBUILDER_CONFIG", "ENVBUILDER_STATE_DIR", "ENVBUILDER_CACHE_DIR"),
        *("ENVBUILDER_ENGINE_TIMEOUT", "ENVBUILDER_DEBUG"),
    }
)
_EXAMPLE = re.compile(r"e\.g\. ('[^']+'|[^,; )]+)")
_EXAMPLES = {"--tag": "team/train:1", "--platform": "linux/arm64"}


def narrow_suggestions(error: click.ClickException) -> None:
    """An option that is the beginning of others means one of these, not one that only looks similar."""
    if not isinstance(error, click.NoSuchOption) or not error.possibilities:
        return
    longer = []
    for name in error.possibilities:
        if name.startswith(error.option_name):
            longer.append(name)
    if longer:
        error.possibilities[:] = longer


def usage_hint(
    error: click.UsageError, root: click.Command, words: Sequence[str]
) -> str:
    """What to do about a usage error of click; empty if nothing is known. `words`: the command line."""
    if type(error) is click.BadOptionUsage:
        option = _find_option(root, words, error.option_name)
        if option is not None and not option.is_flag:
            return f"it takes a value: `{error.option_name} {_example_of(option)}`"
    if error.ctx is not None:
        return f"see `{error.ctx.command_path} --help`"
    return ""


def _find_option(
    command: click.Command, words: Sequence[str], name: str
) -> click.Option | None:
    """The option of that name, of the command that the command line calls."""
    for word in words:
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), word) or command
    for param in command.params:
        if isinstance(param, click.Option) and name in param.opts:
            return param
    return None


def _example_of(option: click.Option) -> str:
    for name in option.opts:
        if name in _EXAMPLES:
            return _EXAMPLES[name]
    example = _EXAMPLE.search(option.help or "")
    if example:
        return example[1].rstrip(".")
    if isinstance(option.type, click.Choice):
        return str(option.type.choices[0])
    return option.metavar or option.type.name.upper()


def misspelt_variables(environ: Mapping[str, str], root: click.Command) -> list[str]:
    """A line for each variable that is nearly one of ours. Variables of others can begin like ours."""
    names = {name for name in environ if name.startswith(_PREFIX)}
    if names <= _VARIABLES:
        return []
    known = _VARIABLES.union(_variables_of(root))
    lines = []
    for name in sorted(names - known):
        nearest = _nearest_variable(name, known)
        if nearest:
            lines.append(f"{name} is ignored; did you mean {nearest}?")
    return lines


def _nearest_variable(name: str, known: Set[str]) -> str:
    """Compared without the prefix, which would make all of them similar."""
    suffix = name.removeprefix(_PREFIX)
    suffixes = sorted(other.removeprefix(_PREFIX) for other in known)
    close = difflib.get_close_matches(suffix, suffixes, n=1, cutoff=0.75)
    if not close:
        return ""
    return f"{_PREFIX}{close[0]}"


def _variables_of(command: click.Command) -> Iterator[str]:
    for param in command.params:
        if isinstance(param.envvar, str):
            yield param.envvar
        elif param.envvar:
            yield from param.envvar
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            if subcommand is not None:
                yield from _variables_of(subcommand)
