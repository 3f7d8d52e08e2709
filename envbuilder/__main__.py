"""`python -m envbuilder`, and the console script: any signal that ends it, however early, ends it cleanly.

Nothing heavy is imported before the handlers are set. Until then there is nothing to clean up.
"""

import os
import signal
import sys
from contextlib import suppress

_INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    try:
        handle_signals()
        from envbuilder import cli  # noqa: PLC0415 - slow, and may be interrupted

        code = cli.main()
    except KeyboardInterrupt:  # before the command line could handle it, or after
        with suppress(OSError):
            os.write(2, b"interrupted\n")
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        # Python would kill itself with SIGINT if the interrupt came in some of its own functions (`exec`).
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def handle_signals() -> None:
    """Handle SIGTERM and SIGHUP like Ctrl-C, except a hangup that the parent process ignores (`nohup`)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def hang_up(number: int, frame: object) -> None:
        # It may come twice, from the kernel and from the shell.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # The terminal is gone: writing to it would fail in the middle of the cleanup.
        for terminal in terminals:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, terminal)
        raise KeyboardInterrupt

    signal.signal(signal.SIGHUP, hang_up)


if __name__ == "__main__":
    main()
