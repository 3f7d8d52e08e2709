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
from envbuilder.cli.shared_options import NAMED_SETTINGS
from envbuilder.errors import EnvbuilderError, NoStackError, UsageError

COMMANDS = {
    "resolve": "Every version that fits together for a request, and why",
    "lock": "Pin every wheel of a stack by hash",
    "render": "Write the Dockerfile and all that it needs",
    "base": "Have the base image at hand: from the store, a registry or Debian's packages",
    "build": "Build an image, prove that it trains, and give it its tag",
    "accept": "Run the acceptance suite in an image",
    "inspect": "Show what is in an image: stack, lock, sizes, the last receipt",
    "init": "Give a repository its lock, build context, compose, dev container and CI",
    "catalog": "What is known, whether it still holds, and a page to pick from",
    "doctor": "What this machine has, and what to mend before building",
}


_OUTPUT_ERRORS = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})


class _Commands(click.Group):
    """Knows its commands by name and help, so that `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"envbuilder.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option(
    "--config", metavar="FILE", envvar="ENVBUILDER_CONFIG", help="Take the settings from FILE, whoever it belongs to."
)
@click.pass_context
def cli(ctx: click.Context, config: str | None) -> None:
    """envbuilder turns "CUDA 11.7" into a container image that is proven to train.

    \b
      envbuilder resolve --cuda 11.7     which versions fit together
      envbuilder build --cuda 11.7       build the image and fine-tune BERT in it
    """
    ctx.ensure_object(dict)
    ctx.meta[NAMED_SETTINGS] = config


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. The one boundary that turns errors into exits."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except (OSError, SystemExit):  # neither stdout nor stderr can be written; click exits where a reader has gone
        if os.environ.get("ENVBUILDER_DEBUG"):
            raise
        _close(sys.__stdout__, sys.__stderr__)
        return UsageError.exit_code


def _run(words: Sequence[str]) -> int:
    try:
        outcome = cli.main(args=list(words), prog_name="envbuilder", standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        return 130
    except click.ClickException as error:
        _complain("error: ", error.format_message())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            _complain(f"hint: see `{error.ctx.command_path} --help`")
        return error.exit_code
    except EnvbuilderError as error:
        return _report(error, as_json="--json" in words)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return _report_refusal(error, as_json="--json" in words)
    except Exception as error:
        return _report_bug(error)


def _report_bug(error: Exception) -> int:
    if os.environ.get("ENVBUILDER_DEBUG"):
        raise error
    _complain("error: ", f"a bug in envbuilder: {type(error).__name__}: {error}")
    _complain("hint: run it again with `ENVBUILDER_DEBUG=1` and report what it prints")
    return 1


def _report_refusal(error: OSError, *, as_json: bool) -> int:
    """What the system refuses is no bug: a file, which has a name, or else the output."""
    if error.errno is None:  # not the system's: requests raises such
        return _report_bug(error)
    if error.filename is not None:
        refusal = UsageError(f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}")
        return _report(refusal, as_json=as_json)
    if error.errno not in _OUTPUT_ERRORS:
        return _report(UsageError(f"the system refuses: {error.strerror}"), as_json=as_json)
    _close(sys.__stdout__)
    refusal = UsageError(f"the output cannot be written: {error.strerror}", hint="is there space where it goes?")
    return _report(refusal, as_json=False)


def _close(*streams: TextIO | None) -> None:
    """Point output at nothing, so that what the interpreter flushes at its end cannot fail again."""
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
        from envbuilder.cli.shared_options import print_json

        document: dict[str, Any] = {
            "ok": False,
            "error": error.message,
            "problems": list(error.problems),
            "hint": error.hint,
        }
        if isinstance(error, NoStackError):
            document = {
                "ok": False,
                "conflict": [{"option": name, "value": value} for name, value in error.conflict],
                "reasons": list(error.reasons),
                "suggestions": [{"command": command} for command in error.suggestions],
                **({"explanation": error.explanation} if error.explanation else {}),
            }
        print_json(document)
    return error.exit_code


def main() -> int:
    """What the console script runs, once it can be interrupted: see `envbuilder.__main__`."""
    _write_any_character()
    return run()


def _write_any_character() -> None:
    """Print what the locale has no character for as an escape, and UTF-8 where the locale is ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else stream.encoding, errors="backslashreplace")
