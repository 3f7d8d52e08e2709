#!/usr/bin/env python3
"""Kill commands at random instants, and break what they work with; see what they leave: `make chaos`, or a part of it:

    python tools/chaos.py [--kills N] [--faults N] [--seed N] [--only COMMAND,…] [--image NAME] [--more]

`lock`, `render` and `init` run against the recorded index; `base` against an engine of its own; `build` and `accept`
against this machine's, by the images that it has. Then come faults of the network, of a disk and of the engine,
`--faults` rounds of them (tools/chaos_faults.py). Every trial is a line of build/chaos/trials.jsonl (`--more` keeps
those of earlier runs); docs/measurements/chaos.md is the table over all of them. Ends with 1 if anything was found.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1])]

from container.private_engine import private_engine
from index_server import serve

import chaos_faults
from chaos_place import (
    PRESETS,
    ROOT,
    Files,
    Workplace,
    empty,
    fill,
    left_by,
    place_in,
    preset,
    processes_in,
    read_files,
)

TRIALS = ROOT / "build" / "chaos" / "trials.jsonl"
REPORT = ROOT / "docs" / "measurements" / "chaos.md"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
INTERRUPTED = 130
LONGEST = 900  # seconds until a command that nobody kills counts as hung
CLEANUP_SECONDS = 60  # the same for one that was interrupted, on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One kill or fault and what it left."""

    command: str
    signal: str  # or the fault
    seconds: float  # after the start
    code: int  # of the command; negative if the signal ended it
    ended_before: bool
    seconds_to_end: float
    found: list[str]
    expected: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is killed, when, and what it may leave."""

    name: str
    words: tuple[str, ...]
    longest: float  # seconds within which it is killed
    prepare: Callable[[Workplace], None]
    find_strays: Callable[
        [Workplace], list[str]
    ]  # what a killed run may leave, and the next one sweeps
    find: Callable[[Workplace], list[str]]  # what is wrong with its files
    sweeper: tuple[str, ...] = ()  # what sweeps after it; itself if nothing is named
    share: float = 1.0  # of the kills


# --- one kill ------------------------------------------------------------------------------------------------------


def kill_once(
    command: Command, number: signal.Signals, seconds: float, place: Workplace
) -> Trial:
    """Start, kill, look, run again, look again."""
    command.prepare(place)
    process = place.start(command.words)
    time.sleep(seconds)
    ended_before = process.poll() is not None
    killed_at = time.monotonic()
    process.send_signal(number)
    found: list[str] = []
    try:
        code = process.wait(CLEANUP_SECONDS if not ended_before else LONGEST)
    except subprocess.TimeoutExpired:
        found.append(f"runs on {CLEANUP_SECONDS} s after {number.name}")
        process.kill()
        code = process.wait()
    seconds_to_end = time.monotonic() - killed_at
    has_engine = command.name in ("base", "build", "accept")
    clean = number is not signal.SIGKILL
    if (
        clean
        and not ended_before
        and code not in (0, INTERRUPTED, -number)
        and not in_pythons_start(code, place)
    ):
        found.append(f"ended with {code}: {place.said()}")
    if not clean:
        wait_for_orphans(place)
    found += command.find(place)
    if clean:
        found += command.find_strays(place)
        found += left_by(place, process.pid, has_engine=has_engine)
    found += run_again(command, process.pid, place, has_engine=has_engine, clean=clean)
    return Trial(
        command=command.name, signal=number.name, seconds=round(seconds, 2), code=code, ended_before=ended_before,
        seconds_to_end=round(seconds_to_end, 2), found=found,
        expected="130, nothing is left" if clean else "the next run sweeps what is left",
    )  # fmt: skip


def in_pythons_start(code: int, place: Workplace) -> bool:
    """Whether it was interrupted before there was any program of ours: Python ends with a traceback of its own."""
    said = (place.folder / "log").read_text(encoding="utf-8", errors="replace")
    return (
        code == 1
        and "KeyboardInterrupt" in said
        and str(ROOT / "envbuilder") not in said
    )


def wait_for_orphans(place: Workplace) -> None:
    """What a killed command had started may end by itself: uv, buildx."""
    deadline = time.monotonic() + CLEANUP_SECONDS
    while processes_in(place.temporary) and time.monotonic() < deadline:
        time.sleep(0.2)


def run_again(
    command: Command, pid: int, place: Workplace, *, has_engine: bool, clean: bool
) -> list[str]:
    """What is wrong with the next run, and what it did not sweep."""
    if clean and command.sweeper:
        return []
    code = place.run(command.sweeper or command.words)
    found = (
        [] if code in (0, 7) else [f"the next run ended with {code}: {place.said()}"]
    )
    if not command.sweeper:
        found += [
            f"after the next run: {line}"
            for line in command.find(place) + command.find_strays(place)
        ]
    return found + [
        f"not swept: {line}" for line in left_by(place, pid, has_engine=has_engine)
    ]


# --- the commands --------------------------------------------------------------------------------------------------


def prepare_from(files: Files, place: Workplace) -> None:
    """A project as it was before the command."""
    empty(place.project)
    fill(place.project, files)


def find_mixed(old: Files, new: Files, place: Workplace) -> list[str]:
    """Files that are neither the old ones nor the new ones, files that are gone, and folders of both."""
    there = read_files(place.project)
    half = [
        name
        for name in there
        if name in {*old, *new} and there[name] not in (old.get(name), new.get(name))
    ]
    lost = [name for name in old if name in new and name not in there]
    found = [f"half file: {name}" for name in half] + [f"lost: {name}" for name in lost]
    for folder in {folder_of(name) for name in old if folder_of(name)}:
        states = [
            {name: files[name] for name in files if folder_of(name) == folder}
            for files in (there, old, new)
        ]
        if states[0] not in states[1:]:
            found.append(f"folder of old and new files: {folder}")
    return found


def folder_of(name: str) -> str:
    """The folder that is replaced whole: `docker/payload`."""
    return "/".join(name.split("/")[:2]) if name.count("/") > 1 else ""


def find_strays(known: set[str], place: Workplace) -> list[str]:
    """Files that are neither of the project nor of the command."""
    return [
        f"stray file: {name}" for name in read_files(place.project) if name not in known
    ]


def file_command(
    name: str, words: Sequence[str], old: Files, place: Workplace, **options: float
) -> Command:
    """A command whose only work is files; it is run once to know what they should be."""
    prepare_from(old, place)
    assert place.run(words) == 0, place.said()
    new = read_files(place.project)
    return Command(
        name=name,
        words=tuple(words),
        longest=options.get("longest", 3.0),
        share=options.get("share", 1.0),
        prepare=partial(prepare_from, old),
        find=partial(find_mixed, old, new),
        find_strays=partial(find_strays, {*old, *new}),
    )


@contextmanager
def file_commands(
    wanted: Sequence[str], folder: Path
) -> Iterator[list[tuple[Command, Workplace]]]:
    """`lock`, `render` and `init`, each in a project that has files of another stack."""
    with serve() as index:
        made = []
        older, newer = preset("cu117-torch2.0.1-py3.9"), preset("cu126")
        if "lock" in wanted:
            place = place_in(folder / "lock", {"UV_CACHE_DIR": str(folder / "cache")})
            argv = (
                "lock",
                "--cuda",
                "12.6",
                "--os",
                "debian13",
                "--base",
                "bootstrap",
                "--index-url",
                index.url,
            )
            made.append(
                (
                    file_command(
                        "lock", argv, {"envbuilder.lock": older.read_bytes()}, place
                    ),
                    place,
                )
            )
        if "render" in wanted:
            place = place_in(folder / "render", {})
            old = render_once(
                ("render", "--lock", str(older), "--output", "docker"), place
            )
            old = {
                name: content + b"\n# older\n" if name.endswith(".py") else content
                for name, content in old.items()
            }
            words = ("render", "--lock", str(older), "--output", "docker")
            made.append(
                (
                    file_command("render", words, old, place, longest=1.5, share=0.8),
                    place,
                )
            )
        if "init" in wanted:
            place = place_in(folder / "init", {})
            made.append(
                (
                    file_command(
                        "init",
                        ("init", "--lock", str(newer)),
                        {},
                        place,
                        longest=1.5,
                        share=0.8,
                    ),
                    place,
                )
            )
        yield made


def render_once(words: Sequence[str], place: Workplace) -> Files:
    assert place.run(words) == 0, place.said()
    return read_files(place.project)


@contextmanager
def base_commands(folder: Path) -> Iterator[list[tuple[Command, Workplace]]]:
    """`base`, by an engine that has none: mmdebstrap runs for minutes; most kills come early."""
    with private_engine() as engine, serve() as index:
        place = place_in(folder / "base", {"DOCKER_HOST": engine.host})
        words = ("base", "--cuda", "12.6", "--os", "debian13", "--base", "bootstrap")
        sweeper = (
            "lock",
            *words[1:],
            "--index-url",
            index.url,
            "--output",
            "-",
        )  # makes a temporary folder
        command = Command(
            name="base", words=words, longest=25, sweeper=sweeper, share=0.6,
            prepare=prepare_nothing, find=find_images, find_strays=find_nothing,
        )  # fmt: skip
        yield [(command, place)]


def prepare_nothing(place: Workplace) -> None:
    """It begins with what the run before has left."""


def find_nothing(place: Workplace) -> list[str]:
    """It has no files of its own in the project."""
    return []


def find_images(place: Workplace) -> list[str]:
    return [
        f"unnamed image: {name}"
        for name in place.docker("images", "--quiet", "--filter", "dangling=true")
    ]


def engine_commands(
    wanted: Sequence[str], image: str, folder: Path
) -> list[tuple[Command, Workplace]]:
    """`build` and `accept` of an image that this machine's engine has, its layers cached."""
    made = []
    name = image.rpartition(":")[2]
    state = {"ENVBUILDER_STATE_DIR": str(folder / "state")}
    sweeper = ("accept", image, "--only", "contract.user")
    if "build" in wanted:
        place = place_in(folder / "build", state)
        tag = f"envbuilder-chaos:{os.getpid()}"
        argv = (
            "build",
            "--lock",
            str(PRESETS / name / "envbuilder.lock"),
            "--tag",
            tag,
            "--fresh",
        )
        made.append(
            (engine_command("build", argv, 20, sweeper, partial(find_tag, tag)), place)
        )
    if "accept" in wanted:
        place = place_in(folder / "accept", state)
        words = ("accept", image, "--fresh")
        made.append(
            (engine_command("accept", words, 30, sweeper, find_receipts), place)
        )
    return made


def engine_command(
    name: str,
    words: tuple[str, ...],
    longest: float,
    sweeper: tuple[str, ...],
    find: Callable[[Workplace], list[str]],
) -> Command:
    return Command(
        name=name, words=words, longest=longest, sweeper=sweeper, share=0.6,
        prepare=prepare_nothing, find=find, find_strays=find_nothing,
    )  # fmt: skip


def find_tag(tag: str, place: Workplace) -> list[str]:
    """A tag that was not earned: nobody let the suite end."""
    return [f"wrong tag: {tag}" for _ in place.docker("images", "--quiet", tag)]


def find_receipts(place: Workplace) -> list[str]:
    return [
        f"receipt without a run: {path.name}"
        for path in place.project.glob("receipts/*")
    ]


# --- the campaign --------------------------------------------------------------------------------------------------


def plan(
    commands: Sequence[tuple[Command, Workplace]], kills: int, seed: int
) -> list[tuple[int, signal.Signals, float]]:
    """(which command, by what, after how many seconds); half of the kills come in the first third of the time."""
    draw = random.Random(seed)
    whole = sum(command.share for command, _ in commands)
    planned = []
    for index, (command, _) in enumerate(commands):
        for count in range(max(1, round(kills * command.share / whole))):
            longest = command.longest / 3 if draw.random() < 0.5 else command.longest
            planned.append(
                (index, SIGNALS[count % len(SIGNALS)], draw.uniform(0, longest))
            )
    draw.shuffle(planned)
    return planned


def campaign(options: argparse.Namespace, folder: Path) -> None:
    wanted = options.only.split(",")
    with ExitStack() as stack:
        commands = [*stack.enter_context(file_commands(wanted, folder))]
        if "base" in wanted:
            commands += stack.enter_context(base_commands(folder))
        commands += engine_commands(wanted, options.image, folder)
        for index, number, seconds in plan(commands, options.kills, options.seed):
            note(kill_once(commands[index][0], number, seconds, commands[index][1]))
    draw = random.Random(options.seed)
    for count, case in enumerate(chaos_faults.rounds(options.faults)):
        note(break_once(case, draw, folder / f"fault-{count}"))


def break_once(case: chaos_faults.Case, draw: random.Random, folder: Path) -> Trial:
    """A command under one fault."""
    folder.mkdir()
    outcome = case.run(draw, folder)
    return Trial(
        command=case.command, signal=case.name, seconds=0, code=outcome.code, ended_before=False,
        seconds_to_end=round(outcome.seconds, 2), found=chaos_faults.judge(case, outcome), expected=case.expected,
    )  # fmt: skip


def note(trial: Trial) -> None:
    with TRIALS.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(json.dumps(asdict(trial)) + "\n")
    print(
        trial.command, trial.signal, trial.seconds, trial.code, *trial.found, flush=True
    )


# --- the report ----------------------------------------------------------------------------------------------------


def read_trials() -> list[Trial]:
    return [
        Trial(**json.loads(line))
        for line in TRIALS.read_text(encoding="utf-8").splitlines()
    ]


def table(trials: Sequence[Trial]) -> list[str]:
    """Counts by command and signal or fault."""
    lines = [
        "| command | signal or fault | expected | trials | too late | found | exit codes | slowest end after it |",
        "| --- | --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    names = [number.name for number in SIGNALS]
    kills_first = sorted(trials, key=lambda trial: trial.signal not in names)
    for command, name in dict.fromkeys(
        (trial.command, trial.signal) for trial in kills_first
    ):
        rows = [
            trial
            for trial in trials
            if (trial.command, trial.signal) == (command, name)
        ]
        late = sum(trial.ended_before for trial in rows)
        found = sum(bool(trial.found) for trial in rows)
        codes = ", ".join(str(code) for code in sorted({trial.code for trial in rows}))
        slowest = max(trial.seconds_to_end for trial in rows)
        cells = (
            command,
            name,
            rows[0].expected,
            len(rows) - late,
            late,
            found,
            codes,
            f"{slowest:.1f} s",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    in_time = sum(not trial.ended_before for trial in trials)
    found = sum(bool(trial.found) for trial in trials)
    lines.append(
        f"| **all** | | | **{in_time}** | {len(trials) - in_time} | {found} | | |"
    )
    return lines


def report(trials: Sequence[Trial]) -> str:
    lines = [
        "# Killed at random instants, and what they work with broken",
        "",
        f"`make chaos`, {datetime.now(UTC).date()}: each command was started, killed at a random instant, and run",
        "again. After SIGINT, SIGTERM and SIGHUP nothing may be left: no container, no process, no mount, no temporary",
        "folder, no half file, no tag that was not earned. After SIGKILL the next run must sweep it.",
        "*Too late*: it had ended before. SIGINT in the first hundredths of a second meets Python itself, which ends",
        "with a traceback of its own; there is nothing to clean up then.",
        "",
        "Faults come from stand-ins: a recorded index that cuts, damages, refuses and stalls; a project or a cache on",
        "a disk that is full or read-only; a stand-in engine, and a dockerd of the trial's own. Where 0 is expected",
        "as well, the disk may be large enough. Whatever is random comes from the seed.",
        "",
        *table(trials),
        "",
    ]
    found = sorted(
        {
            f"- {trial.command}, {trial.signal}: {line.splitlines()[0]}"
            for trial in trials
            for line in trial.found
        }
    )
    return "\n".join(
        [
            *lines,
            *(["What was found:", "", *found] if found else ["Nothing was found."]),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--faults",
        type=int,
        default=3,
        help="how often each fault is tried; the slow ones once",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="lock,render,init,base,build,accept")
    parser.add_argument(
        "--image", default="envbuilder:cu126-torch2.7.1-py3.13-debian13"
    )
    parser.add_argument(
        "--more", action="store_true", help="keep the trials of earlier runs"
    )
    parser.add_argument("--report", action="store_true", help="only write the table")
    options = parser.parse_args()
    TRIALS.parent.mkdir(parents=True, exist_ok=True)
    if not options.more and not options.report:
        TRIALS.write_text("", encoding="utf-8", newline="\n")
    if not options.report:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            campaign(options, Path(folder))
    trials = read_trials()
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(report(trials), encoding="utf-8", newline="\n")
    print("\n".join(table(trials)))
    return int(any(trial.found for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
