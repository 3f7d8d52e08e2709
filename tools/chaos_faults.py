"""Faults of the network, of a disk and of the engine, for `make chaos`: what each command must say, and leave.

The network is a recorded index with faults, a disk a tmpfs of some kilobytes, the engine a stand-in or a private one:
never the engine that this machine uses. What is random (after how many bytes, how large, when) comes from the seed.
"""

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import small_disk
from container.private_engine import PrivateEngine, import_shell, private_engine
from index_server import Faults, serve
from standin.daemon import (
    Daemon,
    Fault,
    daemon_in,
    image,
    runs_until_it_is_killed,
    writes,
)
from standin.programs import Programs
from standin.suite_output import IMAGE, passing, plan

from chaos_place import PRESETS, Workplace, fill, left_by, place_in, preset, read_files
from envbuilder.engine import bootstrap
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock

PAGES = ("torch", "numpy", "transformers", "datasets")
LOCK_WORDS = ("lock", "--cuda", "12.6", "--os", "debian13", "--base", "bootstrap")
OLD = preset("cu117-torch2.0.1-py3.9").read_bytes()
SILENCE = 3  # seconds after which a silent engine is given up, in these trials
ENDS_WITHIN = 30  # seconds for that and for cleaning up, on a busy machine
SLOW = "test/slow:1"
SLOW_PYTHON = (
    '#!/bin/sh\necho \'{"event": "plan", "suite": "0", "checks": []}\'\nexec sleep 60\n'
)


@dataclass(slots=True)
class Outcome:
    """How a command ended under a fault, and what is wrong with what it left."""

    code: int
    said: str
    seconds: float
    found: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fault, and what a command must make of it."""

    command: str
    name: str
    codes: tuple[int, ...]
    cause: str  # a regular expression; nothing is looked for where a command ended well
    run: Callable[[random.Random, Path], Outcome]
    left: str = "nothing is left"
    times: int = 1  # in each round; 0: once in the whole campaign

    @property
    def expected(self) -> str:
        return f"{' or '.join(map(str, self.codes))}; the cause is named, {self.left}, the next run works"


def judge(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong with an outcome."""
    found = list(outcome.found)
    if outcome.code not in case.codes:
        found.append(f"ended with {outcome.code}: {outcome.said[-300:]}")
    elif outcome.code != 0 and not re.search(case.cause, outcome.said):
        found.append(f"the cause is not named: {outcome.said[-300:]}")
    return found


# --- the network ---------------------------------------------------------------------------------------------------


def lock_by_an_index(
    make: Callable[[random.Random], Faults], draw: random.Random, folder: Path
) -> Outcome:
    """`lock` by an index with a fault; the old lock stays, and an index without one is enough for the next run."""
    place = place_in(folder / "place", {"UV_CACHE_DIR": str(folder / "cache")})
    fill(place.project, {LOCK_FILE: OLD})
    with serve(make(draw)) as index:
        outcome, pid = run_once(place, (*LOCK_WORDS, "--index-url", index.url))
    there = read_files(place.project)
    if outcome.code != 0 and there != {LOCK_FILE: OLD}:
        outcome.found.append("the old lock is gone, or there is more than it")
    outcome.found += left_by(place, pid, has_engine=False)
    with serve() as index:
        outcome.found += problems_of_next(
            place, (*LOCK_WORDS, "--index-url", index.url), (0,)
        )
    return outcome


def run_once(place: Workplace, words: Sequence[str]) -> tuple[Outcome, int]:
    started = time.monotonic()
    process = place.start(words)
    code = process.wait(900)
    return Outcome(code, whole_log(place), time.monotonic() - started), process.pid


def whole_log(place: Workplace) -> str:
    return (place.folder / "log").read_text(encoding="utf-8", errors="replace")


def problems_of_next(
    place: Workplace, words: Sequence[str], codes: Sequence[int]
) -> list[str]:
    code = place.run(words)
    return [] if code in codes else [f"the next run ended with {code}: {place.said()}"]


def page(draw: random.Random) -> str:
    return f"/simple/{draw.choice(PAGES)}/"


NETWORK: Mapping[
    str, tuple[Callable[[random.Random], Faults], tuple[int, ...], str]
] = {
    "cut after N bytes": (
        lambda draw: Faults(cuts={page(draw): draw.randrange(1, 900)}),
        (6,),
        "connection was cut",
    ),
    "a byte is another": (
        lambda draw: Faults(flips={page(draw): draw.randrange(900)}),
        (6,),
        "arrived damaged",
    ),
    "truncated": (
        lambda draw: Faults(short={page(draw): draw.randrange(1, 900)}),
        (6,),
        "arrived damaged",
    ),
    "503": (lambda draw: Faults(statuses={page(draw): 503}), (6,), r"\(5xx\)"),
    "429": (lambda draw: Faults(statuses={page(draw): 429}), (6,), r"\(429\)"),
    "404": (
        lambda draw: Faults(statuses={page(draw): 404}),
        (5, 6),
        r"not found|\(404\)|not on",
    ),
}
STALL = (lambda draw: Faults(stalls={page(draw)}), (6,), "stopped answering")


def network_cases() -> Iterator[Case]:
    for name, (make, codes, cause) in NETWORK.items():
        yield Case(
            command="lock",
            name=f"network: {name}",
            codes=codes,
            cause=cause,
            run=partial(lock_by_an_index, make),
        )
    make, codes, cause = STALL
    yield Case(
        command="lock",
        name="network: stalled",
        codes=codes,
        cause=cause,
        run=partial(lock_by_an_index, make),
        times=0,
    )


# --- a disk --------------------------------------------------------------------------------------------------------


def write_to_a_disk(
    words: Sequence[str],
    where: str,
    settings: Mapping[str, str],
    draw: random.Random,
    folder: Path,
) -> Outcome:
    """A command in a project that is such a disk; what was there stays whole, and with room it works."""
    folders = {name: folder / name for name in ("project", "tmp", "cache")}
    for path in folders.values():
        path.mkdir(parents=True)
    again = folder / "again"
    own = {
        name: f"{draw.randrange(int(value[1:]))}k" if value[0] == "<" else value
        for name, value in settings.items()
    }
    own["SIZE"] = f"{max(8, int(own['SIZE'][:-1]))}k" if "SIZE" in own else "8k"
    started = time.monotonic()
    with serve() as index:
        address = ("--index-url", index.url) if words[0] == "lock" else ()
        done = small_disk.run(folders, where, *words, *address, AGAIN=str(again), **own)
    outcome = Outcome(done.returncode, done.stderr, time.monotonic() - started)
    before, _, after = done.stdout.rpartition(" next run: ")
    if outcome.code != 0 and before != "old":
        outcome.found.append("the old lock is gone, or half of a new one is there")
    if after.strip() != "0":
        outcome.found.append(
            f"the next run ended with {after.strip()}: {again.read_text(encoding='utf-8')[-300:]}"
        )
    outcome.found += [
        f"temporary folder left: {path.name}" for path in folders["tmp"].iterdir()
    ]
    return outcome


def disk_cases() -> Iterator[Case]:
    newer = str(preset("cu126"))
    commands = {
        "lock": LOCK_WORDS,
        "render": ("render", "--lock", newer, "--output", "docker"),
        "init": ("init", "--lock", newer),
    }
    full, read_only = (
        r"No space left on device|the disk is full",
        "Read-only file system",
    )
    for name, words in commands.items():
        filled = {"FILL": "1"} if name == "lock" else {"SIZE": "<300"}
        for title, settings, codes, cause in (
            ("full", filled, (0, 2), full),
            ("read-only", {"READ_ONLY": "1"}, (2,), read_only),
        ):
            yield Case(
                command=name,
                name=f"disk: {title}",
                codes=codes,
                cause=cause,
                run=partial(write_to_a_disk, words, "project", settings),
            )
    settings = {"SIZE": "<400"}
    yield Case(
        command="lock",
        name="disk: full, of uv's cache",
        codes=(0, 6),
        cause=full,
        run=partial(write_to_a_disk, LOCK_WORDS, "cache", settings),
    )


# --- the engine ----------------------------------------------------------------------------------------------------

ROUTES = ("info", "image", "make_volume", "create", "put", "attach", "start", "wait")
ACCEPT = ("accept", IMAGE.id, "--fresh", "--gpu-access", "none")
BUILD = (
    "build",
    "--lock",
    str(PRESETS / "cu117-torch2.0.1-py3.9-debian11" / LOCK_FILE),
    "--fresh",
    "--gpu-access",
    "none",
)


@contextmanager
def standin(folder: Path) -> Iterator[tuple[Daemon, Programs, Workplace]]:
    """A stand-in engine and builder, and a project that uses them."""
    with daemon_in(folder) as daemon:
        base = parse_lock(
            Path(BUILD[2]).read_text(encoding="utf-8"), source=BUILD[2]
        ).stack.base
        daemon.images[IMAGE.id] = image(IMAGE.id)
        labels = {bootstrap.LABEL: bootstrap.contents(base)}
        daemon.images[base.reference] = image("sha256:b", Config={"Labels": labels})
        programs = Programs(folder / "bin")
        programs.builds(IMAGE.id)
        env = {
            "PATH": f"{programs.folder}:{os.environ['PATH']}", "DOCKER_HOST": f"unix://{daemon.socket}",
            "ENVBUILDER_ENGINE_TIMEOUT": str(SILENCE), "ENVBUILDER_STATE_DIR": str(folder / "state"),
        }  # fmt: skip
        yield daemon, programs, place_in(folder / "place", env)


def left_in(daemon: Daemon) -> list[str]:
    left = [f"container left: {name[-4:]}" for name in daemon.boxes]
    left += [f"volume left: {name[-4:]}" for name in daemon.volumes]
    return left + [f"wrong tag: {line}" for line in daemon.asked("tag", "push")]


def accept_by_a_faulty_engine(
    fault: Fault, draw: random.Random, folder: Path
) -> Outcome:
    """`accept` by an engine that does one thing wrong.

    Where the answer is cut that names what was made, nobody knows that it is there but for its label.
    """
    with standin(folder) as (daemon, _, place):
        daemon.script = writes("\n".join(passing()).encode() + b"\n")
        route = draw.choice(ROUTES)
        daemon.faults[route] = fault
        outcome, pid = run_once(place, ACCEPT)
        outcome.said = f"({route}) {outcome.said}"
        daemon.faults.clear()
        if not fault.truncate:
            outcome.found += left_in(daemon)
        outcome.found += left_by(place, pid, has_engine=False)
        outcome.found += problems_of_next(
            place, ACCEPT, (7,)
        )  # its other checks say that it is a stand-in
        outcome.found += left_in(daemon)
    return outcome


def freeze(words: Sequence[str], draw: random.Random, folder: Path) -> Outcome:
    """The engine freezes at some instant; it is given up, and what is left is swept by the next run."""
    with standin(folder) as (daemon, programs, place):
        daemon.script = runs_until_it_is_killed(plan().encode() + b"\n")
        if words[0] == "build":
            programs.wait()
        process = place.start(words)
        wait_for(lambda: bool(daemon.asked("start") or programs.asked("docker")))
        time.sleep(draw.uniform(0, 1))
        started = time.monotonic()
        with daemon.frozen():
            code = process.wait(300)
        outcome = Outcome(code, whole_log(place), time.monotonic() - started)
        if outcome.seconds > ENDS_WITHIN:
            outcome.found.append(
                f"ended {outcome.seconds:.0f} s after the engine froze"
            )
        outcome.found += left_by(place, process.pid, has_engine=False)
        daemon.script = writes("\n".join(passing()).encode() + b"\n")
        outcome.found += problems_of_next(place, ACCEPT, (7,)) + left_in(daemon)
    return outcome


def wait_for(is_true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError("it never came so far")
        time.sleep(0.05)


def hit_a_private_engine(
    number: signal.Signals, draw: random.Random, folder: Path
) -> Outcome:
    """dockerd itself is stopped, ended or killed while a suite runs in it; then it goes on, or another one is there."""
    words = ("accept", SLOW, "--fresh", "--gpu-access", "none", "--deadline", "90")
    env = {
        "ENVBUILDER_ENGINE_TIMEOUT": str(SILENCE),
        "ENVBUILDER_STATE_DIR": str(folder / "state"),
    }
    with private_engine() as engine:
        import_slow(engine)
        place = place_in(folder / "place", {**env, "DOCKER_HOST": engine.host})
        process = place.start(words)
        wait_for(
            lambda: bool(
                engine.docker(
                    "ps", "--quiet", "--filter", "label=dev.envbuilder.run"
                ).split()
            )
        )
        time.sleep(draw.uniform(0, 2))
        started = time.monotonic()
        pid = engine.pid
        os.kill(pid, number)
        code = process.wait(300)
        outcome = Outcome(code, whole_log(place), time.monotonic() - started)
        if number is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
            outcome.found += run_after_it(place, process.pid)
    outcome.found += left_by(place, process.pid, has_engine=False)
    if outcome.seconds > ENDS_WITHIN:
        outcome.found.append(f"ended {outcome.seconds:.0f} s after {number.name}")
    if number is not signal.SIGSTOP:
        with private_engine() as engine:
            import_slow(engine)
            next_place = place_in(folder / "next", {**env, "DOCKER_HOST": engine.host})
            outcome.found += run_after_it(next_place, process.pid)
    return outcome


def run_after_it(place: Workplace, pid: int) -> list[str]:
    """The next run, which is late; it has swept what was left."""
    found = problems_of_next(
        place,
        ("accept", SLOW, "--fresh", "--gpu-access", "none", "--deadline", "2"),
        (7,),
    )
    return found + left_by(place, pid, has_engine=True)


def import_slow(engine: PrivateEngine) -> None:
    """An image whose Python only sleeps."""
    import_shell(engine, "test/shell:1")
    program = engine.folder / "python"
    program.write_text(SLOW_PYTHON, encoding="utf-8", newline="\n")
    program.chmod(0o755)
    made = engine.docker("create", "test/shell:1", "sh").strip()
    engine.docker("cp", str(program), f"{made}:/bin/python")
    engine.docker("commit", made, SLOW)
    engine.docker("rm", made)


def engine_cases() -> Iterator[Case]:
    said = "engine|cannot|not today|not accepted"
    swept = "the next run sweeps what is left"
    for name, fault in (
        ("answers with an error", Fault(status=500, message="not today")),
        ("hangs up", Fault(drop=True)),
        ("cuts an answer", Fault(truncate=True)),
    ):
        yield Case(
            command="accept",
            name=f"engine: {name}",
            codes=(6, 7),
            cause=said,
            run=partial(accept_by_a_faulty_engine, fault),
            left=swept if fault.truncate else "nothing is left",
            times=2,
        )
    for words in (ACCEPT, BUILD):
        yield Case(
            command=words[0],
            name="engine: frozen",
            codes=(6,),
            cause=f"has not answered for {SILENCE} s",
            run=partial(freeze, words),
            left=swept,
        )
    for number, name, codes in (
        (signal.SIGSTOP, "stopped (SIGSTOP)", (6,)),
        (signal.SIGTERM, "ended (SIGTERM)", (6, 7)),
        (signal.SIGKILL, "killed (SIGKILL)", (6,)),
    ):
        yield Case(
            command="accept",
            name=f"engine: dockerd {name}",
            codes=codes,
            cause="engine|not accepted",
            run=partial(hit_a_private_engine, number),
            left=swept if number is signal.SIGSTOP else "nothing is left",
            times=0,
        )


def cases() -> list[Case]:
    disks = list(disk_cases()) if small_disk.CAN_MOUNT else []
    return [*network_cases(), *disks, *engine_cases()]


def rounds(count: int) -> Iterator[Case]:
    """Every fault `count` times; the slow ones once."""
    known = cases()
    for number in range(count):
        for case in known:
            for _ in range(max(case.times, int(number == 0))):
                yield case
