"""What recorded builds say: sizes, titles and causes, wherever the log was torn (`tests/builds/record.py`)."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from builds.record import FOLDER, KINDS, LOCK, documents

from envbuilder.console import Row
from envbuilder.engine.build_process import failure
from envbuilder.engine.buildx import BuildProgress, BuildStep, LineReader, wheel_sizes
from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import Layer
from envbuilder.network import Network
from envbuilder.pipeline import step_row

FAILED = [kind for kind in KINDS if kind != "built"]
SIZES = wheel_sizes(parse_lock(LOCK.read_text(), source=str(LOCK)))
Tear = Callable[[bytes], list[bytes]]


def recording(kind: str) -> str:
    return (FOLDER / f"{kind}.rawjson").read_text()


def follow(text: str) -> BuildProgress:
    progress = BuildProgress(SIZES)
    for line in text.splitlines(keepends=True):
        progress.feed(line)
    progress.close()
    return progress


@cache
def joined_logs(kind: str) -> dict[str, bytes]:
    """Everything that a vertex wrote; all of these recordings' steps write to stderr alone."""
    logs: dict[str, bytes] = {}
    for document in documents(recording(kind)):
        for entry in document.get("logs", ()):
            assert entry["stream"] == 2
            logs[entry["vertex"]] = logs.get(entry["vertex"], b"") + base64.b64decode(
                entry["data"]
            )
    return logs


@cache
def split_recording(
    kind: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """A recording in three: what came before the vertices were done, their completions, and the error at the end."""
    before, after = [], []
    for document in documents(recording(kind)):
        for vertex in document.get("vertexes", ()):
            (after if vertex.get("completed") else before).append(
                {"vertexes": [vertex]}
            )
    end_of_documents = recording(kind).rindex("\n}\n") + 3
    return before, after, recording(kind)[end_of_documents:].splitlines(keepends=True)


def test_index_token_is_in_no_log() -> None:
    network = Network(index_url="https://index.example/simple?token=kestrel")
    progress = BuildProgress(hide=network.hide_token)
    said = "cannot load https://index.example/simple/torch/?token=kestrel"
    vertex = {
        "digest": "a",
        "name": "RUN x",
        "started": "2026-01-01T00:00:00Z",
        "error": said,
    }
    log = {"vertex": "a", "data": base64.b64encode(f"{said}\n{said}".encode()).decode()}
    for text in (json.dumps({"vertexes": [vertex]}), json.dumps({"logs": [log]}), said):
        progress.feed(f"{text}\n")
    progress.close()
    hidden = said.replace("token=kestrel", "****")
    assert progress.rest == [hidden]
    assert progress.log == ["# RUN x", hidden, hidden, hidden]
    assert progress.steps["a"].error == hidden


def follow_torn(kind: str, tear: Tear) -> BuildProgress:
    """The same build, its logs in other chunks."""
    before, after, rest = split_recording(kind)
    logs: list[dict[str, Any]] = []
    for vertex, log in joined_logs(kind).items():
        for chunk in tear(log):
            logs.append(
                {
                    "logs": [
                        {
                            "vertex": vertex,
                            "stream": 2,
                            "data": base64.b64encode(chunk).decode(),
                        }
                    ]
                }
            )
    lines = [json.dumps(document) + "\n" for document in [*before, *logs, *after]]
    return follow("".join([*lines, *rest]))


def layer_steps(progress: BuildProgress) -> dict[Layer, BuildStep]:
    steps = {}
    for step in progress.steps.values():
        for layer, wheels in SIZES.items():
            if step.wheels == wheels:
                steps[layer] = step
    return steps


def test_a_layer_shows_the_sizes_of_the_lock() -> None:
    steps = layer_steps(follow(recording("built")))
    shown = {layer: (step.current, step.total) for layer, step in steps.items()}
    assert shown == {
        layer: (sum(wheels.values()), sum(wheels.values()))
        for layer, wheels in SIZES.items()
    }
    assert shown[Layer.NVIDIA] == (1_583_955_302, 1_583_955_302)


def test_titles_are_readable() -> None:
    titles = [
        step.title for step in follow(recording("built")).steps.values() if step.title
    ]
    assert sorted(titles) == [
        "Hugging Face stack: 8 wheels, 15 MB",
        "NVIDIA libraries: 11 wheels, 1.58 GB",
        "PyTorch: 4 wheels, 694 MB",
        "base docker.io/library/envbuilder-base:debian11",
        "exporting to image",
        "libraries: 62 wheels, 182 MB",
        "lock",
        "payload",
        "user",
        "uv's hashes",
        "uv, for the build only",
        "working directory",
    ]


def rows_while_it_builds(layer: Layer) -> Iterator[Row]:
    """Every line that the display shows of one layer."""
    progress = BuildProgress(SIZES)
    for line in recording("built").splitlines(keepends=True):
        progress.feed(line)
        step = layer_steps(progress).get(layer)
        if step:
            yield step_row(step)


def test_progress_reaches_the_size_and_is_printed_once() -> None:
    rows = list(rows_while_it_builds(Layer.NVIDIA))
    counted = [row.current for row in rows if row.state == "running"]
    assert counted == sorted(counted)
    assert {row.total for row in rows if row.state == "running"} == {1_583_955_302}
    assert 11_845_698 in counted  # cuda-cupti was the first
    assert (rows[-1].title, rows[-1].state, rows[-1].total) == (
        "NVIDIA libraries: 11 wheels, 1.58 GB",
        "done",
        0,
    )


def test_cached_wheels_count_as_progress() -> None:
    step = BuildStep(title="PyTorch", wheels={"torch": 5, "triton": 2}, started=True)
    step.read_line(" Downloaded torch")
    assert (step.current, step.total) == (5, 7)
    step.read_line(" Downloaded torch")
    step.read_line(" Downloaded somebody-elses")
    assert (step.current, step.total) == (5, 7)
    step.read_line("Prepared 1 package in 12ms")
    assert (step.current, step.total) == (7, 7)


CAUSES = {
    "hash-mismatch": (
        "libraries: 62 wheels, 182 MB",
        "does not match its hash in the lock",
        "retry",
    ),
    "no-network": (
        "uv, for the build only",
        "the network is down",
        "check the network",
    ),
    "disk-full": (
        "NVIDIA libraries: 11 wheels, 1.58 GB",
        "the disk is full",
        "docker system df",
    ),
}


def outcome(progress: BuildProgress) -> tuple[str, str | None, tuple[str, ...]]:
    error = failure(progress, Path("build.log"))
    return error.message, error.hint, tuple(error.problems)


@pytest.mark.parametrize("kind", FAILED)
def test_failed_build_reports_step_cause_and_remedy(kind: str) -> None:
    message, hint, problems = outcome(follow(recording(kind)))
    title, cause, remedy = CAUSES[kind]
    assert f"“{title}”" in message
    assert cause in message
    assert remedy in (hint or "")
    assert problems


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAILED)
def test_cause_does_not_depend_on_log_chunks(kind: str) -> None:
    expected = outcome(follow(recording(kind)))
    length = max(map(len, joined_logs(kind).values()))
    outcomes = {
        outcome(follow_torn(kind, lambda log, at=at: [log[:at], log[at:]]))
        for at in range(length + 1)
    }  # type: ignore[misc]
    assert outcomes == {expected}


def bytes_alone(log: bytes) -> list[bytes]:
    return [log[at : at + 1] for at in range(len(log))]


@pytest.mark.parametrize(
    "tear", [bytes_alone, lambda log: [log]], ids=["bytes", "whole"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_their_lines_do_not_depend_on_the_chunks(
    kind: str, tear: Tear
) -> None:
    expected, torn = follow(recording(kind)), follow_torn(kind, tear)
    assert facts(torn.steps.values()) == facts(expected.steps.values())


def facts(steps: Iterable[BuildStep]) -> list[tuple[str, int, int, list[str]]]:
    return sorted((step.title, step.current, step.total, step.log) for step in steps)


def test_chunks_may_split_characters_and_line_ends() -> None:
    text = "“Größe” 1,6 GB — ✓\r\n 50 %\r100 %\n\nlast 🙂".encode()
    for at in range(len(text) + 1):
        reader = LineReader()
        lines = [*reader.feed(text[:at]), *reader.feed(text[at:]), *reader.close()]
        assert lines == ["“Größe” 1,6 GB — ✓", " 50 %", "100 %", "last 🙂"], at


def test_undecodable_bytes_are_replaced_within_the_line() -> None:
    reader = LineReader()
    assert reader.feed(b"a\xff\xe2\x82") == []
    assert reader.feed(b"b\nc\xe2") == ["a\ufffd\ufffdb"]
    assert reader.close() == ["c\ufffd"]
    assert reader.close() == []


def test_the_streams_of_a_step_are_joined_each_by_itself() -> None:
    progress = BuildProgress()
    progress.feed(
        json.dumps({"vertexes": [{"digest": "a", "name": "[1/1] RUN x"}]}) + "\n"
    )
    for stream, chunk in (
        (1, b"out "),
        (2, b"No space left "),
        (1, b"put\n"),
        (2, b"on device\n"),
    ):
        entry = {
            "vertex": "a",
            "stream": stream,
            "data": base64.b64encode(chunk).decode(),
        }
        progress.feed(json.dumps({"logs": [entry]}) + "\n")
    assert progress.steps["a"].log == ["out put", "No space left on device"]


def test_unfinished_output_of_buildx_is_kept() -> None:
    progress = BuildProgress()
    progress.feed('{\n  "vertexes": [\n')
    progress.feed("killed\n")
    progress.close()
    assert progress.rest == ["{", '  "vertexes": [', "killed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_names_no_server(kind: str) -> None:
    said = [recording(kind), *(log.decode() for log in joined_logs(kind).values())]
    assert not re.findall(r"https?://(?!index\.invalid)\S+", "\n".join(said))
    assert len(recording(kind)) < 300_000
