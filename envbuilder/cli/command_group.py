"""Groups of commands: help without arguments, and a suggestion for a misspelt command."""

import difflib
from typing import Any

import click

from envbuilder.errors import UsageError

_LONGEST_HELP = 200  # characters


class SuggestingGroup(click.Group):
    """Runs without a command, for `print_help_if_alone`, and suggests the nearest command for a misspelt one."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings["invoke_without_command"] = True
        super().__init__(*args, **settings)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        names = self.list_commands(ctx)
        if name in names or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        hint = f"see `{ctx.command_path} --help`"
        close = difflib.get_close_matches(name, names, n=1)
        if close:
            hint = f"did you mean `{ctx.command_path} {close[0]}`?"
        raise UsageError(f"there is no command {name!r}", hint=hint)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """The commands with their whole first sentences, which click would cut."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                rows.append((name, command.get_short_help_str(limit=_LONGEST_HELP)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def print_help_if_alone(ctx: click.Context) -> None:
    """Print the help of a group that was called without a command."""
    if ctx.invoked_subcommand is None:
        from envbuilder.console import answer

        answer(ctx.get_help())


class SuggestingChoice(click.Choice[str]):
    """One of a few words; a misspelt one is answered with the nearest."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        message = super().get_invalid_choice_message(value, ctx)
        words = [str(choice) for choice in self.choices]
        close = difflib.get_close_matches(str(value), words, n=1, cutoff=0.5)
        if close:
            return f"{message} Did you mean {close[0]!r}?"
        return message
