"""Calls in another thread, so that Ctrl-C ends the waiting and not the call."""

import _thread
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_background(compute: Callable[[], T], answer: "Future[T]") -> None:
    """Compute in another thread and give the result to `answer`; the thread does not keep the program from ending.

    The caller makes the `answer`, and starting a thread this way waits for nothing (`threading.Thread.start` does):
    wherever an interrupt comes, the caller can still ask for the result.
    """

    def run() -> None:
        try:
            answer.set_result(compute())
        except Exception as error:
            answer.set_exception(error)

    _thread.start_new_thread(run, ())
