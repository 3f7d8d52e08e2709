"""Building through `docker buildx build`: the command, what its progress means, and why it failed.

All pure; `envbuilder.engine.build` runs it. Progress is read as buildx writes it with `--progress=rawjson`: BuildKit's
SolveStatus documents, one after the other (docs.docker.com/reference/cli/docker/buildx/build).
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from envbuilder.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What the user may say about a build; each is an option of buildx of the same name."""

    platform: str = "linux/amd64"
    builder: str | None = None
    cache_to: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    no_cache: bool = False


INDEX_VARIABLE = "ENVBUILDER_INDEX_SECRET"  # carries the index address to buildx: no temporary file holds a credential


def build_argv(
    context: Path, *, dockerfile: str, iidfile: Path, metadata: Path, options: BuildOptions, network: Network
) -> list[str]:
    """The whole command. Secrets are named here by file or variable; their values never are."""
    argv = ["docker", "buildx", "build", "--progress", "rawjson", "--load", "--platform", options.platform]
    argv += ["--iidfile", str(iidfile), "--metadata-file", str(metadata)]
    if options.builder:
        argv += ["--builder", options.builder]
    if options.no_cache:
        argv += ["--no-cache"]
    argv += [word for value in options.cache_to for word in ("--cache-to", value)]
    argv += [word for value in options.cache_from for word in ("--cache-from", value)]
    if network.ca:
        argv += ["--secret", _file_secret("ca", network.ca)]
    if network.netrc:
        argv += ["--secret", _file_secret("netrc", network.netrc)]
    if network.index_url:
        argv += ["--secret", f"id=index,env={INDEX_VARIABLE}"]
    for name in network.proxies or {}:  # values come from the environment: predefined arguments, not in the history
        argv += ["--build-arg", name]
    return [*argv, "--file", str(context / dockerfile), "--", str(context)]


def _file_secret(name: str, path: Path) -> str:
    """A build secret from a file. buildx reads a line of CSV, in which a comma would begin another field."""
    source = f"src={path}"
    if "," in source or '"' in source:
        escaped = source.replace('"', '""')
        source = f'"{escaped}"'
    return f"id={name},{source}"


# --- progress ------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Step:
    """One vertex of the build as far as it has come."""

    title: str
    started: bool = False
    done: bool = False
    cached: bool = False
    error: str = ""
    seconds: float = 0.0
    current: int = 0  # bytes
    total: int = 0  # bytes
    log: list[str] = field(default_factory=list)
    _sizes: dict[str, int] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        """Count bytes by what uv says: `Downloading torch (590.7MiB)`, later ` Downloaded torch`."""
        said = _DOWNLOAD.match(line)
        if said and said["size"]:
            self._sizes[said["name"]] = round(float(said["size"]) * _UNITS[said["unit"]])
            self.total += self._sizes[said["name"]]
        elif said:
            self.current += self._sizes.get(said["name"], 0)


_DOWNLOAD = re.compile(
    r"\s*Download(?:ing|ed) (?P<name>[A-Za-z0-9._-]+)(?: \((?P<size>[0-9.]+)(?P<unit>[KMG]iB)\))?\s*$"
)
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LAYER = re.compile(r"source=layers/([a-z]+)\.txt")
_LAYERS = {"nvidia": "NVIDIA libraries", "torch": "PyTorch", "libraries": "libraries", "stack": "Hugging Face stack"}
_OPTION = re.compile(r"--(mount|link)(=\S+)?\s+")
_STAGE = re.compile(r"^\[(?:(?P<stage>[a-z]\S*)\s+)?(?P<step>\d+/\d+)\]\s*")
_INTERNAL = ("[internal]", "[auth]", "resolve image config")


_KNOWN = (  # what an instruction says → what a person calls it
    ("apt-get", "system packages"),
    ("pip install", "uv, for the build only"),
    ("useradd", "user"),
    ("COPY install/uv.txt", "uv's hashes"),
    ("COPY payload", "payload"),
    ("COPY envbuilder.lock", "lock"),
    ("WORKDIR", "working directory"),
)


def step_title(name: str) -> str:
    """A vertex's name as a person would say it; empty for the builder's own housekeeping."""
    layer, stage = _LAYER.search(name), _STAGE.match(name)
    if layer or name.startswith(_INTERNAL) or stage is None:
        return _LAYERS.get(layer[1], layer[1]) if layer else "" if name.startswith(_INTERNAL) else name
    words = " ".join(_OPTION.sub("", name[stage.end() :]).split())
    if words.startswith("FROM"):
        return f"base {words.removeprefix('FROM ').split('@')[0]}"
    known = next((title for sign, title in _KNOWN if sign in words), words)
    return known if len(known) <= 60 else known[:59] + "…"


class Progress:
    """Follows a build: feed it buildx's output, read `steps`. Text that is no progress (an error) is kept in `rest`."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.log: list[str] = []  # every line any step wrote, and every step's beginning and end
        self.rest: list[str] = []
        self._buffer = ""

    def feed(self, text: str) -> None:
        """Take one more line of output."""
        if not self._buffer and not text.startswith("{"):
            if text.strip():
                self.rest.append(text.rstrip("\n"))
                self.log.append(text.rstrip("\n"))
            return
        self._buffer += text
        if not text.startswith("}") and not text.endswith("}\n"):
            return
        try:
            document = json.loads(self._buffer)
        except ValueError:
            return
        self._buffer = ""
        self._read(document)

    def _read(self, document: Mapping[str, Any]) -> None:
        for vertex in document.get("vertexes") or ():
            self._vertex(vertex)
        for status in document.get("statuses") or ():
            step = self.steps.get(status["vertex"])
            if step and not status.get("completed"):
                step.current, step.total = status.get("current", 0), status.get("total", 0)
        for entry in document.get("logs") or ():
            text = base64.b64decode(entry["data"]).decode(errors="replace")
            step = self.steps.get(entry["vertex"])
            lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
            self.log += lines
            if step:
                step.log += lines
                for line in lines:
                    step.hear(line)

    def _vertex(self, vertex: Mapping[str, Any]) -> None:
        digest = vertex["digest"]
        if digest not in self.steps:
            self.steps[digest] = Step(title=step_title(vertex["name"]))
            self.log.append(f"# {vertex['name']}")
        step = self.steps[digest]
        was_done = step.done
        step.started = step.started or bool(vertex.get("started"))
        step.cached = bool(vertex.get("cached"))
        step.error = vertex.get("error") or ""
        if vertex.get("completed"):
            step.done = True
            step.seconds = _seconds(vertex.get("started") or vertex["completed"], vertex["completed"])
            if not was_done:
                self.log.append(f"# {'CACHED' if step.cached else f'{step.seconds:.1f} s'}: {vertex['name']}")

    @property
    def failed(self) -> Step | None:
        """The step that broke the build; others are only cancelled with it."""
        broken = [step for step in self.steps.values() if step.error]
        return next((step for step in broken if "context canceled" not in step.error), None)


def _seconds(started: str, completed: str) -> float:
    """The time between two of BuildKit's RFC 3339 stamps with nanoseconds."""
    first, last = (datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text)) for text in (started, completed))
    return (last - first).total_seconds()


# --- failure -------------------------------------------------------------------------------------------------------

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"no space left on device|disk quota exceeded",
        "the disk is full",
        "see what takes the space: `docker system df`; free some: `docker builder prune`",
    ),
    (
        r"certificate verify failed|UnknownIssuer|invalid peer certificate|SSLCertVerificationError",
        "a server's TLS certificate is signed by a CA that the build does not know",
        "give it the CA bundle: `envbuilder build --ca-bundle FILE`",
    ),
    (
        r"failed to do request|failed to resolve source metadata|pull access denied|manifest unknown",
        "the base image cannot be had: no registry that is reachable has it",
        "make a base here: `envbuilder build --base bootstrap`",
    ),
    (  # before the network: the socket of an engine that dies can say "connection reset by peer"
        r"Cannot connect to the Docker daemon|error reading from server|rpc error.*(EOF|Unavailable)|"
        r"connection error: desc =|closing transport",
        "the engine died, or was stopped, during the build",
        "start it (`tools/engine up`), then run the same command: finished layers are kept",
    ),
    (
        r"Temporary failure (in name resolution|resolving)|Could not resolve|dns error|Network is unreachable|"
        r"connection (refused|reset|timed out)|Name or service not known|failed to lookup address|timed out|"
        r"error sending request|NewConnectionError",
        "the network was cut, or the package index cannot be reached",
        "check the network and the proxy (`HTTPS_PROXY`), then run the same command: finished layers are kept",
    ),
    (
        r"exec format error",
        "the engine's machine cannot run programs of the image's platform",
        "build on a machine of that platform (`--builder NAME`), or install QEMU's emulation (`qemu-user-static`)",
    ),
    (
        r"hash mismatch|DO NOT MATCH THE HASHES",
        "a download is not the locked wheel",
        "try again; if it stays so, the index serves other files than those that were locked",
    ),
)
_NOISE = re.compile(r"^(#|-+$|>>>|\s*[0-9]+ \||ERROR: failed to solve|warning:|Dockerfile:)")


def find_cause(text: str) -> tuple[str, str] | None:
    """What went wrong and what to do, from a failed build's words."""
    return next(((cause, hint) for pattern, cause, hint in _CAUSES if re.search(pattern, text, re.IGNORECASE)), None)


def telling_lines(progress: Progress, most: int = 8) -> list[str]:
    """The last lines that matter: those of the step that failed, else of the builder itself."""
    step = progress.failed
    lines = (step.log if step and step.log else [step.error] if step else progress.rest) or progress.log
    return [line.strip() for line in _without_noise(lines)][-most:]


def _without_noise(lines: Sequence[str]) -> list[str]:
    kept = [line for line in lines if line.strip() and not _NOISE.match(line)]
    return kept or list(lines)
