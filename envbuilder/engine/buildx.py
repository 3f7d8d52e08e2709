"""Building through `docker buildx build`: the command, what its progress means, and why it failed.

All pure; `envbuilder.engine.build_process` runs it. BuildProgress is what buildx writes with `--progress=rawjson`:
BuildKit's SolveStatus documents, one after the other (docs.docker.com/reference/cli/docker/buildx/build).
"""

import base64
import codecs
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from envbuilder.console import size_text
from envbuilder.grammar import JsonObject, one_line
from envbuilder.model import Layer, Lock, total_size
from envbuilder.network import PYTHON_MIRROR, Network, find_network_cause


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """The user's options of a build; each is passed to buildx's option of the same name."""

    platform: str = "linux/amd64"
    builder: str | None = None
    cache_to: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    no_cache: bool = False


LOAD = ("--load",)
"""The engine's own store."""

# These variables carry secrets to buildx, so that no temporary file holds a credential.
INDEX_VARIABLE = "ENVBUILDER_INDEX_SECRET"  # the index address
TORCH_INDEX_VARIABLE = "ENVBUILDER_TORCH_INDEX_SECRET"  # that of PyTorch's index
LOGIN_VARIABLE = "ENVBUILDER_LOGIN_SECRET"  # the netrc entry of its host
JOBS_VARIABLE = "MAX_JOBS"  # as torch's own builder calls it; no secret, but a secret changes no cache
APT_VARIABLE = "ENVBUILDER_APT_SECRET"  # the address of a mirror of Debian


def build_argv(
    context: Path,
    *,
    dockerfile: str,
    iidfile: Path,
    metadata: Path,
    options: BuildOptions,
    network: Network,
    arguments: Mapping[str, str] | None = None,
    output: Sequence[str] = LOAD,
    jobs: str = "",
) -> list[str]:
    """The whole command. It names secrets by file or variable, and never holds their values.

    `arguments`: those of the Dockerfile, by name, none of which is a secret; `output`: the options that say where the
    image goes; `jobs`: a variable with the number of compilers that run at once.
    """
    argv = ["docker", "buildx", "build", "--progress", "rawjson", *output]
    argv += ["--platform", options.platform]
    argv += ["--iidfile", str(iidfile), "--metadata-file", str(metadata)]
    if options.builder:
        argv += ["--builder", options.builder]
    if options.no_cache:
        argv += ["--no-cache"]
    for value in options.cache_to:
        argv += ["--cache-to", value]
    for value in options.cache_from:
        argv += ["--cache-from", value]
    argv += _secret_words(network, jobs)
    for name, value in (arguments or {}).items():
        argv += ["--build-arg", f"{name}={value}"]
    # Docker's predefined build arguments take their values from the environment, and are not in the image's history.
    for name in network.proxies or {}:
        argv += ["--build-arg", name]
    return [*argv, "--file", str(context / dockerfile), "--", str(context)]


def _secret_words(network: Network, jobs: str) -> list[str]:
    """The build secrets, each named by its file or its variable."""
    words: list[str] = []
    if network.ca:
        words += ["--secret", _file_secret("ca", network.ca)]
    if network.login:
        words += ["--secret", f"id=netrc,env={LOGIN_VARIABLE}"]
    if network.index_url:
        words += ["--secret", f"id=index,env={INDEX_VARIABLE}"]
    if network.torch_index:
        words += ["--secret", f"id=torch-index,env={TORCH_INDEX_VARIABLE}"]
    if network.apt_mirror:
        words += ["--secret", f"id=apt-mirror,env={APT_VARIABLE}"]
    if network.python_mirror:
        words += ["--secret", f"id=python-mirror,env={PYTHON_MIRROR}"]
    if jobs:
        words += ["--secret", f"id=max-jobs,env={jobs}"]
    return words


def _file_secret(name: str, path: Path) -> str:
    """A build secret from a file. buildx parses it as CSV, in which a comma would begin another field."""
    source = f"src={path}"
    if "," in source or '"' in source:
        escaped = source.replace('"', '""')
        source = f'"{escaped}"'
    return f"id={name},{source}"


# --- progress ------------------------------------------------------------------------------------------------------

WheelSizes = Mapping[
    Layer, Mapping[str, int]
]  # for each wheel layer: wheel name → bytes to download


def wheel_sizes(lock: Lock) -> WheelSizes:
    """The sizes of a lock's wheels, by layer, for titles and totals."""
    sizes: dict[Layer, dict[str, int]] = {}
    for wheel in lock.wheels:
        layer = sizes.setdefault(wheel.layer, {})
        layer[wheel.name] = wheel.size
    return sizes


@dataclass(slots=True, kw_only=True)
class BuildStep:
    """One vertex of the build as far as it has come."""

    title: str
    wheels: Mapping[str, int] = field(
        default_factory=dict
    )  # name → bytes; those that this step installs
    started: bool = False
    done: bool = False
    cached: bool = False
    error: str = ""
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)
    _downloaded: set[str] = field(default_factory=set)
    _statuses: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes to download: by the lock (0: not known), else what BuildKit says of the layers that it pulls."""
        if self.wheels:
            return total_size(self.wheels.values())
        return sum(total for _, total in self._statuses.values())

    @property
    def current(self) -> int:
        """Bytes downloaded so far."""
        if not self.wheels:
            return self._transferred()
        if self.done and not self.error:
            return self.total
        return sum(self.wheels[name] for name in self._downloaded)

    def _transferred(self) -> int:
        """Bytes of BuildKit's own transfers; a status without a total is something else."""
        size = 0
        for current, total in self._statuses.values():
            if total:
                size += current
        return size

    def read_line(self, line: str) -> None:
        """Keep a line of the log, and count the wheels that uv has downloaded."""
        self.log.append(line)
        # uv reports neither small wheels nor those in its cache, but it does report that all are ready.
        if _PREPARED.match(line):
            self._downloaded.update(self.wheels)
            return
        downloaded = _DOWNLOADED.match(line)
        if downloaded and downloaded[1] in self.wheels:
            self._downloaded.add(downloaded[1])

    def read_status(self, status: JsonObject) -> None:
        """Keep how far one of BuildKit's own transfers has come."""
        self._statuses[status["id"]] = (
            status.get("current", 0),
            status.get("total", 0),
        )


_DOWNLOADED = re.compile(r"\s*Downloaded ([A-Za-z0-9._-]+)\s*$")
_PREPARED = re.compile(r"Prepared \d+ packages? in ")


# The mount of the step that installs a layer has the layer's file in it: see `templates/debian/Dockerfile.j2`.
_LAYER = re.compile(
    r"source=images/[^/,\s]+/layers/([a-z]+)\.txt,target=/requirements\.txt"
)
_LAYERS = {
    Layer.NVIDIA: "NVIDIA libraries",
    Layer.TORCH: "PyTorch",
    Layer.LIBRARIES: "libraries",
    Layer.STACK: "Hugging Face stack",
}
_OPTIONS = re.compile(
    r"^([A-Z]+)(?: --(?:mount|link|chmod|chown|network|security)(?:=\S+)?)+ "
)
_STAGE = re.compile(
    r"\[(?:[^\s\]]+ )*\d+/\d+\] ?"
)  # the stage follows a platform, if that is not the builder's
_INTERNAL = ("[internal]", "[auth]", "resolve image config")
_LONGEST_TITLE = 60
_TITLES = (  # instructions of our Dockerfiles, and what they do
    (r"RUN .*\bapt-get install\b", "system packages"),
    (r"RUN .*pip install .*--target /opt/uv\b", "uv, for the build only"),
    (r"RUN .*build_sources\.py tools ", "tools to build source packages"),
    (r"RUN .*build_sources\.py wheels ", "source packages, without network"),
    (r"COPY images/\S+/sources ", "source packages"),
    (r"RUN .*compile_sources\.py wheel ", "compiling with nvcc, without network"),
    (r"RUN .*compile_sources\.py list ", "list of compiled wheels"),
    (r"COPY images/\S+/compiled/", "packages to compile"),
    (
        r"RUN VIRTUAL_ENV=/opt/compiler ",
        "torch, nvcc and build tools, for the build only",
    ),
    (r"RUN python3 /install/wheels\.py /wheels/", "compiled packages"),
    (r"RUN mkdir -p /toolkit/", "nvcc and headers"),
    (r"COPY /toolkit ", "nvcc and headers"),
    (r"RUN sh /system/base\.sh\b", "checks of the base image"),
    (r"RUN /opt/uv/bin/uv python install\b|RUN .*uv python install\b", "Python"),
    (r"RUN sh /system/packages\.sh\b", "your system packages"),
    (r"RUN useradd\b", "user"),
    (r"RUN ln -s .*/nvidia/\S+ /usr/local/cuda\b", "links to nvcc"),
    (r"COPY install/uv\.txt ", "uv's hashes"),
    (r"COPY payload ", "payload"),
    (r"COPY images/\S+/envbuilder\.lock ", "lock"),
    (r"WORKDIR ", "working directory"),
)


def step_title(name: str, sizes: WheelSizes | None = None) -> str:
    """A vertex's name as a person would say it; empty for the builder's own housekeeping.

    `name` can come from any Dockerfile: control characters are removed, and the title is cut to a line.
    """
    clean = one_line(name)
    if clean.startswith(_INTERNAL):
        return ""
    layer = layer_of(name)
    if layer:
        return _layer_title(layer, (sizes or {}).get(layer, {}))
    stage = _STAGE.match(clean)
    if stage is None:
        return _shorten(clean)
    instruction = _OPTIONS.sub(r"\1 ", clean[stage.end() :])
    if instruction.startswith("FROM "):
        return _shorten(f"base {instruction.removeprefix('FROM ').split('@')[0]}")
    for pattern, title in _TITLES:
        if re.match(pattern, instruction):
            return title
    return _shorten(instruction)


def layer_of(name: str) -> Layer | None:
    """The wheel layer that a vertex installs, if it is such a step."""
    mount = _LAYER.search(name)
    if mount is None or mount[1] not in set(Layer):
        return None
    return Layer(mount[1])


def _layer_title(layer: Layer, wheels: Mapping[str, int]) -> str:
    name = _LAYERS[layer]
    if not wheels:
        return name
    count = len(wheels)
    noun = "wheel" if count == 1 else "wheels"
    size = total_size(wheels.values())
    if not size:
        return f"{name}: {count} {noun}"
    return f"{name}: {count} {noun}, {size_text(size)}"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_TITLE else text[: _LONGEST_TITLE - 1] + "…"


class LineReader:
    """Joins the chunks of one stream to lines: a chunk may end in the middle of a line, or of a character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that this chunk ends, blank ones left out."""
        return self._split(self._decoder.decode(chunk))

    def close(self) -> list[str]:
        """The last line, if nothing ended it."""
        return self._split(self._decoder.decode(b"", final=True) + "\n")

    def _split(self, text: str) -> list[str]:
        *lines, self._rest = re.split(r"[\r\n]", self._rest + text)
        return [line for line in lines if line.strip()]


class BuildProgress:
    """Follows a build: feed it buildx's output, read `steps`. Other text (an error) is kept in `rest`.

    `sizes` are those of the lock that is built; `hide` removes secrets from a text. Call `close` when buildx has
    ended: the last line may have no newline.
    """

    def __init__(
        self, sizes: WheelSizes | None = None, *, hide: Callable[[str], str] = str
    ) -> None:
        self.steps: dict[str, BuildStep] = {}
        self.log: list[
            str
        ] = []  # every line of every step, and each step's beginning and end
        self.rest: list[str] = []
        self._sizes = sizes or {}
        self._hide = hide
        self._buffer = ""
        # One for each vertex and stream: otherwise the lines of stdout and stderr would mix.
        self._readers: dict[tuple[str, int], LineReader] = {}

    def feed(self, text: str) -> None:
        """Take one more line of output."""
        in_document = bool(self._buffer) or text.startswith("{")
        if not in_document:
            self._read_rest(text)
            return
        self._buffer += text
        # A document may span lines; parsing the whole buffer again at each of them would take too long.
        if not text.startswith("}") and not text.endswith("}\n"):
            return
        try:
            document = json.loads(self._buffer)
        except ValueError:
            return
        self._buffer = ""
        self._read(document)

    def close(self) -> None:
        """Take the last line even without a newline, and the start of a document if buildx was killed."""
        self.rest += self._hide(self._buffer).splitlines()
        self._buffer = ""
        for source, reader in self._readers.items():
            vertex, _ = source
            self._read_lines(vertex, reader.close())

    def _read_rest(self, text: str) -> None:
        if not text.strip():
            return
        line = self._hide(text.rstrip("\n"))
        self.rest.append(line)
        self.log.append(line)

    def _read(self, document: JsonObject) -> None:
        for vertex in document.get("vertexes") or ():
            self._read_vertex(vertex)
        for status in document.get("statuses") or ():
            step = self.steps.get(status["vertex"])
            if step:
                step.read_status(status)
        for entry in document.get("logs") or ():
            self._read_log(entry)

    def _read_log(self, entry: JsonObject) -> None:
        vertex = entry["vertex"]
        source = (vertex, entry.get("stream", 0))
        reader = self._readers.setdefault(source, LineReader())
        chunk = base64.b64decode(entry["data"])
        lines = reader.feed(chunk)
        self._read_lines(vertex, lines)

    def _read_lines(self, vertex: str, raw_lines: Sequence[str]) -> None:
        lines = [self._hide(line) for line in raw_lines]
        self.log += lines
        step = self.steps.get(vertex)
        if step is None:
            return
        for line in lines:
            step.read_line(line)

    def _read_vertex(self, vertex: JsonObject) -> None:
        name = vertex["name"]
        step = self._step_of(vertex)
        was_done = step.done
        started = vertex.get("started")
        completed = vertex.get("completed")
        step.started = step.started or bool(started)
        step.cached = bool(vertex.get("cached"))
        step.error = self._hide(vertex.get("error") or "")
        if not completed:
            return
        step.done = True
        step.seconds = _seconds(started or completed, completed)
        # BuildKit reports a vertex again, for instance once its error is known.
        if not was_done:
            duration = "CACHED" if step.cached else f"{step.seconds:.1f} s"
            self.log.append(f"# {duration}: {name}")

    def _step_of(self, vertex: JsonObject) -> BuildStep:
        """The step of a vertex, which begins with the vertex's first report."""
        digest = vertex["digest"]
        known = self.steps.get(digest)
        if known:
            return known
        name = vertex["name"]
        layer = layer_of(name)
        wheels = self._sizes.get(layer, {}) if layer else {}
        step = BuildStep(title=step_title(name, self._sizes), wheels=wheels)
        self.steps[digest] = step
        self.log.append(f"# {name}")
        return step

    @property
    def failed(self) -> BuildStep | None:
        """The step that broke the build; others are only cancelled with it."""
        for step in self.steps.values():
            if step.error and "context canceled" not in step.error:
                return step
        return None


def _seconds(started: str, completed: str) -> float:
    """The time between two of BuildKit's RFC 3339 time stamps."""
    return (_instant(completed) - _instant(started)).total_seconds()


def _instant(text: str) -> datetime:
    """A time stamp with nanoseconds, of which Python takes six digits."""
    with_microseconds = re.sub(r"(\.\d{6})\d*", r"\1", text)
    return datetime.fromisoformat(with_microseconds)


# --- failure -------------------------------------------------------------------------------------------------------

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"no space left on device|disk quota exceeded|don't have enough free space",
        "the disk is full",
        "see what uses the space: `docker system df`; free some: `docker builder prune`",
    ),
    (
        r"toomanyrequests|pull rate limit",
        "the registry of the base image limits pulls (429)",
        "log in (`docker login`), wait, or build a base from Debian packages: `envbuilder build --base bootstrap`",
    ),
    (
        r"resolve[^\n]*buildkit-syft-scanner",
        "the image that makes the SBOM was not found on any reachable registry",
        "name one that can be reached, `--attest type=sbom,generator=IMAGE`, or leave the SBOM out",
    ),
    (
        r"failed to do request|failed to resolve source metadata|pull access denied|manifest unknown",
        "the base image was not found on any reachable registry",
        "build a base from Debian packages: `envbuilder build --base bootstrap`",
    ),
    (  # before the network: the socket of an engine that dies can say "connection reset by peer"
        r"Cannot connect to the Docker daemon|error reading from server|rpc error.*(EOF|Unavailable)|"
        r"connection error: desc =|closing transport",
        "the engine died, or was stopped, during the build",
        "start it (`sudo systemctl start docker`), then run the same command: finished layers are kept",
    ),
    (
        r"exec format error",
        "the engine's machine cannot run programs of the image's platform",
        "build on a machine of that platform (`--builder NAME`), or install QEMU's emulation (`qemu-user-static`)",
    ),
    (
        r"exec: \"/bin/sh\": (stat /bin/sh: )?no such file",
        "the base image has no shell: nothing can be installed in it",
        "choose another base: `--base IMAGE`, or leave it to envbuilder: `--base auto`",
    ),
    (
        r"source package [a-z0-9-]+: .*(than the locked one|the lock has)",
        "a source package is built to another wheel here than when it was locked",
        "lock it again: `envbuilder lock`; if it persists, its build depends on the machine: use a wheel of it",
    ),
    (
        r"source package [a-z0-9-]+: ",
        "a source package cannot be built in the image",
        "see what its build says; a wheel of it needs no build",
    ),
    (
        r"hash mismatch|DO NOT MATCH THE HASHES",
        "a downloaded wheel does not match its hash in the lock",
        "retry; if it persists, the index now serves a different file",
    ),
    (
        r"No solution found when resolving dependencies",
        "the index does not have a locked wheel",
        "use an index or a mirror that has it, or lock what exists now: `envbuilder lock`",
    ),
)
_NOISE = re.compile(
    r"^(#|-+$|>>>|\s*[0-9]+ \||ERROR: failed to solve|warning:|Dockerfile:)"
)


def find_cause(text: str) -> tuple[str, str] | None:
    """(cause, hint) for the output of a failed build; None if it is not a known failure."""
    for pattern, cause, hint in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return cause, hint
    sentence = _OWN_SENTENCE.search(text)
    if sentence:
        return _cause_of_program(sentence[1])
    return find_network_cause(text)


_OWN_SENTENCE = re.compile(r"^(?:[0-9.]+ )?envbuilder: (.{1,500})$", re.MULTILINE)
"""What a program of docker/system/ says when it gives up."""


def _cause_of_program(sentence: str) -> tuple[str, str]:
    """The sentence of a program of docker/system/, and what to do about it."""
    if sentence.startswith("--apt"):
        return sentence, "correct the name, then lock and build again"
    return (
        sentence,
        "choose another base: `--base IMAGE`, or leave it to envbuilder: `--base auto`",
    )


def telling_lines(progress: BuildProgress, most: int = 8) -> list[str]:
    """The last lines that matter: those of the step that failed, else of the builder itself."""
    lines = [line.strip() for line in _without_noise(_failed_lines(progress))]
    return lines[-most:]


def _failed_lines(progress: BuildProgress) -> Sequence[str]:
    step = progress.failed
    if step is None:
        return progress.rest or progress.log
    return step.log or [step.error]


def _without_noise(lines: Sequence[str]) -> list[str]:
    kept = [line for line in lines if line.strip() and not _NOISE.match(line)]
    return kept or list(lines)
