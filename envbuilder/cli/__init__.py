"""The command line: parse, one call, print. One file per command, imported when it is called."""

import codecs
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

import click

from envbuilder import __version__
from envbuilder.cli import completion
from envbuilder.cli.command_group import SuggestingGroup, print_help_if_alone
from envbuilder.cli.misspelt import misspelt_variables, narrow_suggestions, usage_hint
from envbuilder.cli.settings import NAMED_SETTINGS
from envbuilder.errors import EnvbuilderError, NoStackError, UsageError

COMMANDS = {
    "resolve": "Show the compatible versions for a request, and why",
    "lock": "Pin every wheel of a stack by hash",
    "render": "Write a Dockerfile with its build context, or files for other tools",
    "base": "Fetch or build the base image (engine cache, registry or Debian packages)",
    "build": "Build an image, run the acceptance suite in it, and tag it if it passes",
    "accept": "Run the acceptance suite on any image",
    "inspect": "Show an image's stack, lock, sizes and last receipt",
    "init": "Set up a repository: lock, build context, compose, dev container, CI",
    "catalog": "Inspect and verify the version catalog, or export it as an HTML page",
    "doctor": "Check this machine for problems before building",
}


_DISK_ERRORS = frozenset({errno.EDQUOT, errno.EFBIG, errno.ENOSPC})
_OUTPUT_ERRORS = _DISK_ERRORS | {errno.EBADF, errno.EIO}


class _Commands(SuggestingGroup):
    """Knows its commands by name and help, so that `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"envbuilder.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NoStackError as error:
            from envbuilder.cli.request import explain_origins

            explain_origins(error)
            raise

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@click.option(
    "--config",
    metavar="FILE",
    envvar="ENVBUILDER_CONFIG",
    help="Read settings from FILE, even if another user owns it.",
)
@click.pass_context
def cli(ctx: click.Context, config: str | None) -> None:
    """envbuilder turns "CUDA 11.7" into a container image that is proven to train.

    \b
      envbuilder resolve --cuda 11.7     show the compatible versions
      envbuilder build --cuda 11.7       build the image and fine-tune BERT in it

    An option that takes one value can be set in the environment: --cuda as ENVBUILDER_CUDA, --index-url as
    ENVBUILDER_INDEX_URL. The command line comes first, then the environment, then envbuilder.toml.

    Shell completion: `eval "$(_ENVBUILDER_COMPLETE=bash_source envbuilder)"` in ~/.bashrc; for zsh and fish use
    zsh_source and fish_source.
    """
    ctx.ensure_object(dict)
    ctx.meta[NAMED_SETTINGS] = config
    for line in misspelt_variables(os.environ, ctx.command):
        _complain("warning: ", line)
    print_help_if_alone(ctx)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. The one boundary that turns errors into exits."""
    if completion.VARIABLE in os.environ:
        return completion.answer_shell(cli)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except (
        OSError,
        SystemExit,
    ):  # stderr cannot be written; click exits if its reader has gone
        if os.environ.get("ENVBUILDER_DEBUG"):
            raise
        _close(sys.__stdout__, sys.__stderr__)
        return UsageError.exit_code


def _run(words: Sequence[str]) -> int:
    try:
        outcome = cli.main(
            args=list(words), prog_name="envbuilder", standalone_mode=False
        )
        if sys.stdout:
            _flush(sys.stdout)
        return outcome if isinstance(outcome, int) else 0
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        return 130
    except click.ClickException as error:
        return _report_usage(error, words)
    except EnvbuilderError as error:
        return _report(error, as_json="--json" in words)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return _report_refusal(error, as_json="--json" in words)
    except Exception as error:
        return _report_bug(error)


def _report_usage(error: click.ClickException, words: Sequence[str]) -> int:
    narrow_suggestions(error)
    hint = ""
    if isinstance(error, click.UsageError):
        hint = usage_hint(error, cli, words)
    refusal = UsageError(error.format_message(), hint=hint)
    _report(refusal, as_json="--json" in words)
    return error.exit_code


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except BrokenPipeError:  # the reader has read enough, as `head` does
        _close(sys.__stdout__)


def _report_bug(error: Exception) -> int:
    if os.environ.get("ENVBUILDER_DEBUG"):
        raise error
    _complain("error: ", f"a bug in envbuilder: {type(error).__name__}: {error}")
    _complain("hint: run it again with `ENVBUILDER_DEBUG=1` and report the output")
    return 1


def _report_refusal(error: OSError, *, as_json: bool) -> int:
    """An error of the system is no bug: it concerns a file, which has a name, or else the output."""
    if error.errno is None:  # not from the system: requests raises such errors
        return _report_bug(error)
    if error.filename is not None:
        refusal = UsageError(
            f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}"
        )
        return _report(refusal, as_json=as_json)
    if error.errno not in _OUTPUT_ERRORS:
        return _report(UsageError(f"system error: {error.strerror}"), as_json=as_json)
    _close(sys.__stdout__)
    hint = "write it to a file or a pipe: `envbuilder … > FILE`"
    if error.errno in _DISK_ERRORS:
        hint = "free some space on its disk, or write it to another one"
    refusal = UsageError(f"the output cannot be written: {error.strerror}", hint=hint)
    return _report(refusal, as_json=False)


def _close(*streams: TextIO | None) -> None:
    """Point output at /dev/null, so that the interpreter's last flush cannot fail again."""
    for stream in streams:
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def _complain(*parts: str) -> None:
    from envbuilder.console import clean, complain

    complain("".join(map(clean, parts)))


def _report(error: EnvbuilderError, *, as_json: bool) -> int:
    from envbuilder.console import Console

    Console().error(error)
    if as_json:
        from envbuilder.cli.session import print_json

        print_json(_document(error))
    return error.exit_code


def _document(error: EnvbuilderError) -> dict[str, Any]:
    """An error as the JSON answer of a command."""
    if not isinstance(error, NoStackError):
        return {
            "ok": False,
            "error": error.message,
            "problems": list(error.problems),
            "hint": error.hint,
        }
    document: dict[str, Any] = {
        "ok": False,
        "conflict": [
            {"option": name, "value": value} for name, value in error.conflict
        ],
        "reasons": list(error.reasons),
        "suggestions": [{"command": command} for command in error.suggestions],
    }
    if error.explanation:
        document["explanation"] = error.explanation
    return document


def main() -> int:
    """Called by the console script once it can be interrupted: see `envbuilder.__main__`."""
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()
    _write_any_character()
    return run()


class _ClosedOutput(io.TextIOBase):
    """In place of a stdout that the parent process closed (`>&-`): an answer that nobody gets is an error."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed")


def _write_any_character() -> None:
    """Print characters that the locale lacks as escapes; use UTF-8 if the locale is ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        encoding = stream.encoding
        if codecs.lookup(encoding).name == "ascii":
            encoding = "utf-8"
        stream.reconfigure(encoding=encoding, errors="backslashreplace")
