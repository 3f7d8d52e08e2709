"""The build's command, its progress and its failures, without an engine."""

import base64
import json
from pathlib import Path

import pytest

from envbuilder.engine.buildx import (
    BuildOptions,
    BuildProgress,
    build_argv,
    find_cause,
    step_title,
    telling_lines,
)
from envbuilder.network import Network


def argv(network: Network | None = None, **options: object) -> list[str]:
    return build_argv(
        Path("ctx"),
        dockerfile="images/x/Dockerfile",
        iidfile=Path("iid"),
        metadata=Path("meta"),
        options=BuildOptions(**options),  # type: ignore[arg-type]
        network=network or Network(),
    )


def test_the_plain_command() -> None:
    assert argv() == [
        "docker", "buildx", "build", "--progress", "rawjson", "--load", "--platform", "linux/amd64",
        "--iidfile", "iid", "--metadata-file", "meta", "--file", "ctx/images/x/Dockerfile", "--", "ctx",
    ]  # fmt: skip


def test_user_options_reach_buildx() -> None:
    words = argv(
        builder="remote",
        cache_to=("type=inline",),
        cache_from=("a", "b"),
        no_cache=True,
    )
    assert words[words.index("--builder") + 1] == "remote"
    assert [words[i + 1] for i, word in enumerate(words) if word == "--cache-from"] == [
        "a",
        "b",
    ]
    assert words[words.index("--cache-to") + 1] == "type=inline"
    assert "--no-cache" in words


def test_secrets_are_named_and_never_spelled_out() -> None:
    network = Network(
        ca=Path("/ca.pem"),
        login="machine index.example login me password hunter2",
        index_url="https://me:hunter2@index.example/simple",
        proxies={"HTTPS_PROXY": "http://me:hunter2@proxy.example"},
    )
    words = argv(network)
    assert "hunter2" not in " ".join(words)
    assert [words[i + 1] for i, word in enumerate(words) if word == "--secret"] == [
        "id=ca,src=/ca.pem",
        "id=netrc,env=ENVBUILDER_LOGIN_SECRET",
        "id=index,env=ENVBUILDER_INDEX_SECRET",
    ]
    assert words[words.index("--build-arg") + 1] == "HTTPS_PROXY"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("[internal] load build definition from Dockerfile", ""),
        ("[stage-1 3/8] RUN --mount=type=cache,target=/x make  all", "RUN make all"),
        ("[build 3/8] RUN pip install my-package", "RUN pip install my-package"),
        ("[stage-1 2/8] COPY payload.txt /", "COPY payload.txt /"),
        ("[stage-1 2/8] RUN printf '\x1b[2J\r' \x07\u202e", "RUN printf ' [2J '"),
        ("\x1b]0;title\x07 exporting", "]0;title exporting"),
        ("[stage-1 2/8] RUN " + "x" * 100, "RUN " + "x" * 55 + "…"),
        (
            "[linux/arm64 stage-1 7/8] COPY --link payload /opt/envbuilder/payload",
            "payload",
        ),
        (
            "[uv 1/3] FROM docker.io/library/envbuilder-base:debian11@sha256:0",
            "base docker.io/library/envbuilder-base:debian11",
        ),
        ("[stage-1 7/8] COPY --link payload /opt/envbuilder/payload", "payload"),
        ("exporting to image", "exporting to image"),
    ],
)
def test_steps_have_readable_titles(name: str, title: str) -> None:
    assert step_title(name) == title


def feed(progress: BuildProgress, document: object) -> None:
    for line in json.dumps(document, indent=2).splitlines(keepends=True):
        progress.feed(line)


STAMPS = {
    "started": "2026-01-01T00:00:00.5Z",
    "completed": "2026-01-01T00:00:02.000000001Z",
}


def test_progress_follows_steps_and_their_log() -> None:
    progress = BuildProgress()
    feed(
        progress,
        {
            "vertexes": [
                {
                    "digest": "a",
                    "name": "[stage-1 2/3] RUN x",
                    "started": STAMPS["started"],
                }
            ]
        },
    )
    feed(
        progress,
        {"logs": [{"vertex": "a", "data": base64.b64encode(b"one\ntwo\n").decode()}]},
    )
    step = progress.steps["a"]
    assert (step.started, step.done, step.log) == (True, False, ["one", "two"])
    feed(progress, {"vertexes": [{"digest": "a", "name": "n", **STAMPS}]})
    assert (step.done, step.seconds) == (True, 1.5)
    assert progress.log == ["# [stage-1 2/3] RUN x", "one", "two", "# 1.5 s: n"]


def test_the_layers_of_a_base_that_is_pulled_count_together() -> None:
    progress = BuildProgress()
    feed(
        progress,
        {
            "vertexes": [
                {"digest": "a", "name": "[1/2] FROM x", "started": STAMPS["started"]}
            ]
        },
    )
    for layer, current in (("one", 5), ("two", 1), ("one", 10), ("context:", 3)):
        total = 0 if layer == "context:" else 10
        feed(
            progress,
            {
                "statuses": [
                    {"id": layer, "vertex": "a", "current": current, "total": total}
                ]
            },
        )
    assert (progress.steps["a"].current, progress.steps["a"].total) == (11, 20)


def test_one_document_a_line_is_understood_too() -> None:
    progress = BuildProgress()
    progress.feed(
        json.dumps(
            {
                "vertexes": [
                    {"digest": "a", "name": "[1/2] RUN x", "cached": True, **STAMPS}
                ]
            }
        )
        + "\n"
    )
    assert progress.steps["a"].cached


def test_failed_and_cancelled_steps_are_distinguished() -> None:
    progress = BuildProgress()
    for digest, error in (
        ("a", "context canceled: ..."),
        ("b", "process did not complete: exit code: 1"),
    ):
        feed(
            progress,
            {
                "vertexes": [
                    {
                        "digest": digest,
                        "name": f"[1/2] RUN {digest}",
                        "error": error,
                        **STAMPS,
                    }
                ]
            },
        )
    feed(
        progress,
        {
            "logs": [
                {
                    "vertex": "b",
                    "data": base64.b64encode(b"\n#5 x\nno such wheel\n").decode(),
                }
            ]
        },
    )
    assert progress.failed is progress.steps["b"]
    assert telling_lines(progress) == ["no such wheel"]


def test_other_output_is_kept() -> None:
    progress = BuildProgress()
    progress.feed(
        "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n"
    )
    assert telling_lines(progress) == [
        "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    ]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            "rpc error: code = Unavailable desc = error reading from server: EOF",
            "the engine died",
        ),
        (
            "rpc error: code = Unavailable desc = error reading from server: connection reset by peer",
            "the engine died",
        ),
        ("Temporary failure in name resolution", "the network is down"),
        ("invalid peer certificate: UnknownIssuer", "TLS certificate"),
        (
            "failed to resolve source metadata for docker.io/library/python:3.10",
            "the base image was not found on any reachable registry",
        ),
        (
            "0.355 exec /bin/sh: exec format error",
            "cannot run programs of the image's platform",
        ),
        ("Hash mismatch for `numpy`", "does not match its hash in the lock"),
    ],
)
def test_causes_are_named_with_a_remedy(said: str, cause: str) -> None:
    found = find_cause(said)
    assert found is not None
    assert cause in found[0]
    assert found[1]


def test_an_unknown_failure_has_no_invented_cause() -> None:
    assert find_cause("process did not complete successfully: exit code: 3") is None
