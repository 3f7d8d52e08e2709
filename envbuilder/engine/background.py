"""What is waited for in another thread, so that an interrupt of ours does not break off what it waits for."""

import _thread
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_background(compute: Callable[[], T], answer: "Future[T]") -> None:
    """Give `answer` what is computed while other things happen; this does not keep the program from ending.

    The answer is the caller's own, and starting a thread this way waits for nothing: wherever an interrupt comes, the
    caller can still ask what became of it.
    """

    def run() -> None:
        try:
            answer.set_result(compute())
        except Exception as error:
            answer.set_exception(error)

    _thread.start_new_thread(run, ())
