"""Running a build with buildx: progress is followed, the full log goes to a file, the image id comes back."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from envbuilder import processes
from envbuilder.engine.buildx import (
    APT_VARIABLE,
    INDEX_VARIABLE,
    JOBS_VARIABLE,
    LOAD,
    LOGIN_VARIABLE,
    TORCH_INDEX_VARIABLE,
    BuildOptions,
    BuildProgress,
    WheelSizes,
    build_argv,
    find_cause,
    telling_lines,
)
from envbuilder.errors import EngineError
from envbuilder.files import is_file, read_text, temporary_folder, unwritable
from envbuilder.network import PYTHON_MIRROR, Network

# BuildKit continues what an interrupted build left, and misses the client of that build. A second try works.
_LOST_SESSION = "no active session"
_OLDER_LOGS = 9  # of the same context, that a new one leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A built image by its id (sha256:…); `cached` is how many of `steps` came from the cache."""

    image: str
    steps: int
    cached: int


def build(
    context: Path,
    *,
    dockerfile: str,
    log: Path,
    options: BuildOptions,
    network: Network,
    environ: dict[str, str],
    on_change: Callable[[BuildProgress], None],
    sizes: WheelSizes | None = None,
    check: processes.Check = processes.no_check,
    arguments: Mapping[str, str] | None = None,
    output: Sequence[str] = LOAD,
) -> Built:
    """Build a Dockerfile of a context; `sizes` are those of its lock, `check` raises if the engine is silent.

    `arguments`: those of the Dockerfile, by name; `output`: the options of buildx that say where the image goes,
    and in which form.

    Raises `EngineError` with the cause, telling lines and the log's path.
    """
    progress = BuildProgress(sizes, hide=network.hide_token)
    env = {**environ, **(network.proxies or {})}
    if network.index_url:
        env[INDEX_VARIABLE] = network.index_url
    if network.torch_index:
        env[TORCH_INDEX_VARIABLE] = network.torch_index
    if network.login:
        env[LOGIN_VARIABLE] = network.login
    if network.apt_mirror:
        env[APT_VARIABLE] = network.apt_mirror
    if network.python_mirror:
        env[PYTHON_MIRROR] = network.python_mirror
    with temporary_folder("build") as folder:
        iidfile, metadata = folder / "iid", folder / "metadata.json"
        argv = build_argv(
            context,
            dockerfile=dockerfile,
            iidfile=iidfile,
            metadata=metadata,
            options=options,
            network=network,
            arguments=arguments,
            output=output,
            jobs=JOBS_VARIABLE if environ.get(JOBS_VARIABLE) else "",
        )
        log.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        # Never write through a link that somebody put there.
        log.unlink(missing_ok=True)
        with (
            _written(log),
            log.open(
                "x", encoding="utf-8", errors="backslashreplace", newline="\n"
            ) as stream,
        ):

            def write_log() -> None:
                nonlocal written
                stream.writelines(f"{line}\n" for line in progress.log[written:])
                stream.flush()
                written = len(progress.log)

            def on_text(text: str) -> None:
                progress.feed(text)
                write_log()
                on_change(progress)

            try:
                code = processes.stream(argv, on_text, env=env, check=check)
                if code != 0 and any(_LOST_SESSION in line for line in progress.rest):
                    code = processes.stream(argv, on_text, env=env, check=check)
            finally:
                progress.close()
                write_log()
        if code != 0 or not is_file(iidfile):
            raise failure(progress, log)
        image = read_text(iidfile).strip()
        if output != LOAD:
            image = _stored_digest(metadata) or image
    titled = [step for step in progress.steps.values() if step.title]
    return Built(
        image=image, steps=len(titled), cached=sum(step.cached for step in titled)
    )


def _stored_digest(metadata: Path) -> str:
    """The id of an image in containerd's store, from the metadata of a build; the file for the id has another one."""
    document = json.loads(read_text(metadata))
    digest: str = document.get("containerimage.digest", "")
    return digest


@contextmanager
def _written(log: Path) -> Iterator[None]:
    """Name the log in the error of a failed write: the system's error has no path."""
    try:
        yield
    except OSError as error:
        raise unwritable(log, error) from error


def failure(progress: BuildProgress, log: Path) -> EngineError:
    """The error of a build that failed: the step, the cause if it is known, and the lines that matter."""
    lines = telling_lines(progress)
    message = "the build failed"
    hint = f"read the full log: `less {log}`"
    output = [*lines, *progress.rest]
    step = progress.failed
    if step:
        output.append(step.error)
        if step.title:
            message += f" at “{step.title}”"
    known = find_cause("\n".join(output))
    if known:
        cause, hint = known
        message += f": {cause}"
    return EngineError(message, hint=hint, problems=lines, log=str(log))


def log_path(folder: Path, name: str, stamp: str) -> Path:
    """A new log file's path; of the older logs of the same context, the last nine are kept."""
    if folder.is_dir():
        oldest_first = sorted(folder.glob(f"{name}-*.log"))
        for old in oldest_first[:-_OLDER_LOGS]:
            with suppress(OSError):
                old.unlink()
    return folder / f"{name}-{stamp}.log"
