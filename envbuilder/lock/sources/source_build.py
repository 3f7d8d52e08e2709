"""A source archive → a wheel, built on this machine as the image will build it: pinned tools, no network, twice."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.pylock import PackageWheel, Pylock, PylockSelectError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name

from envbuilder import grammar, processes, resources
from envbuilder.errors import LockError
from envbuilder.files import read_bytes, read_text, temporary_folder, write_file
from envbuilder.grammar import JsonObject
from envbuilder.lock.index_answer import ask_index
from envbuilder.lock.sources.compiled import compile_hint
from envbuilder.lock.sources.folder_metadata import parse_pyproject
from envbuilder.lock.sources.source_archive import SourceArchive
from envbuilder.lock.target_platform import markers
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import BuildTool, Source, SourceKind, Stack, Wheel

PROGRAM = "build_sources.py"
PLAN = "sources.json"
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
_LEGACY_TOOLS = ("setuptools>=40.8.0",)
_PURE = [Tag(f"py{version}", "none", "any") for version in ("3", *range(314, 299, -1))]
_LONGEST = 1800  # seconds
_MOST_LINES = 8
VERSION_FROM_GIT = frozenset(
    {"setuptools-scm", "hatch-vcs", "pdm-backend", "pbr", "setuptools-git-versioning"}
)
# What a build that failed says, and what it means.
_MEANINGS = (
    (
        r"'(/usr)?(/bin/)?false' failed|\bgcc\b|g\+\+|nvcc|cargo|rustc|CUDA_HOME|cmake|[Cc]ompiler|command 'cc'",
        "it compiles, which is not possible here",
    ),
    ("No module named 'torch'", "it needs torch while it is built"),
    ("No module named", "it needs a module that is not among its build tools"),
    (
        "Network is unreachable|Temporary failure in name resolution|Name or service not known|"
        "NewConnectionError|getaddrinfo|URLError|Errno 101|Errno -3|Errno -2",
        "it wants the network while it is built, and gets none",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSystem:
    """How an archive says that it is built (PEP 518)."""

    backend: str
    backend_path: tuple[str, ...]
    requires: tuple[str, ...]

    @property
    def required_names(self) -> list[str]:
        return [canonicalize_name(Requirement(line).name) for line in self.requires]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWheel:
    """The wheel of an archive, and the tools that built it."""

    path: Path
    backend: str
    backend_path: tuple[str, ...]
    tools: tuple[BuildTool, ...]


def build_system_of(archive: SourceArchive, subdirectory: str) -> BuildSystem:
    """What pyproject.toml says; without it, setuptools with the archive's setup.py. Raises `LockError`."""
    place = f"{subdirectory}/" if subdirectory else ""
    text = archive.read(f"{place}pyproject.toml")
    document = parse_pyproject(text, f"{place}pyproject.toml") if text else {}
    table = document.get("build-system")
    if not isinstance(table, dict):
        if text is None and archive.read(f"{place}setup.py") is None:
            raise LockError(
                "it has no pyproject.toml and no setup.py"
                + (f" in {subdirectory}" if subdirectory else ""),
                hint="if the package is in a folder of the repository: `#subdirectory=FOLDER` behind the address",
            )
        return BuildSystem(
            backend=LEGACY_BACKEND, backend_path=(), requires=_LEGACY_TOOLS
        )
    backend = table.get("build-backend", LEGACY_BACKEND)
    paths = table.get("backend-path", [])
    requires = table.get("requires", list(_LEGACY_TOOLS))
    if not isinstance(backend, str) or not grammar.matches(
        grammar.BuildBackend, backend
    ):
        raise LockError(f"its build backend {str(backend)[:60]!r} is none")
    if not _are_texts(paths) or not all(_is_below(path) for path in paths):
        raise LockError("its backend-path leads out of it")
    if not _are_texts(requires):
        raise LockError("its build-system.requires is no list of requirements")
    return BuildSystem(
        backend=backend,
        backend_path=tuple("" if path == "." else path for path in paths),
        requires=tuple(_build_requirement(line) for line in requires),
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_below(path: str) -> bool:
    return path == "." or grammar.matches(grammar.Subfolder, path)


def _build_requirement(line: str) -> str:
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        raise LockError(f"its build requirement {line[:60]!r} is none") from error
    if requirement.url:
        raise LockError(f"its build requirement {requirement.name} names an address")
    return str(requirement)


# --- tools ---------------------------------------------------------------------------------------------------------


def pin_tools(
    requires: Sequence[str], uv: Uv, stack: Stack, *, whose: str = "its"
) -> tuple[BuildTool, ...]:
    """The build requirements and what they depend on, for the image's Python, as pure wheels, with their hashes."""
    answer = ask_index(
        uv,
        stack,
        requires,
    )
    if answer.document is None:
        raise LockError(
            f"{whose} build tools ({', '.join(requires)}) cannot be resolved",
            problems=answer.causes[:4],
        )
    pylock = Pylock.from_dict(answer.document)
    tools = []
    try:
        for package, file in pylock.select(environment=markers(stack), tags=_PURE):
            if not isinstance(file, PackageWheel) or package.version is None:
                raise LockError(f"{whose} build tool {package.name} has no wheel")
            tool = BuildTool(
                name=canonicalize_name(package.name),
                version=package.version,
                sha256=file.hashes["sha256"],
            )
            tools.append(tool)
    except PylockSelectError as error:
        raise LockError(
            f"one of {whose} build tools is not pure Python: {error}",
            hint="a wheel of the package needs no build",
        ) from error
    return tuple(sorted(tools, key=lambda tool: tool.name))


def tools_text(tools: Sequence[BuildTool]) -> str:
    """Build tools as a hashed requirements file."""
    lines = ["--only-binary :all:"]
    for tool in tools:
        lines.append(f"{tool.name}=={tool.version} --hash=sha256:{tool.sha256}")
    return "\n".join([*lines, ""])


# --- the plan ------------------------------------------------------------------------------------------------------


def plan_of(source: Source, wheel: Wheel | None) -> dict[str, Any]:
    """One package of `sources.json`; `wheel` is the locked one, if there is one yet."""
    tools = {tool.name for tool in source.tools}
    from_git = source.kind in (SourceKind.GIT, SourceKind.LOCAL)
    asks_git = from_git and bool(tools & VERSION_FROM_GIT)
    plan: dict[str, Any] = {
        "name": source.name,
        "archive": source.archive,
        "sha256": source.sha256,
        "subdirectory": source.subdirectory,
        "backend": source.backend,
        "backend_path": list(source.backend_path),
        "pretend_version": str(source.version) if asks_git else "",
    }
    if source.environment:
        plan["environment"] = dict(source.environment)
    if wheel:
        plan["wheel"] = wheel.file
        plan["wheel_sha256"] = wheel.sha256
    return plan


def plan_text(plans: Sequence[JsonObject]) -> str:
    return json.dumps(plans, indent=1) + "\n"


# --- building here -------------------------------------------------------------------------------------------------


class Offline:
    """Runs programs without a network, where this machine can do that."""

    def __init__(self, environ: Mapping[str, str], note: Callable[[str], None]) -> None:
        env = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        for name in ("PATH", "TMPDIR", "HOME"):
            if name in environ:
                env[name] = environ[name]
        self._env = env
        self._note = note
        self._prefix: list[str] | None = None

    def run(self, argv: Sequence[str]) -> tuple[int, list[str]]:
        """Exit code, and the lines of the output."""
        lines: list[str] = []

        def keep(text: str) -> None:
            line = text.rstrip()
            if line:
                lines.append(line)

        apart = [*self._cut_off(), *argv]
        code = processes.stream(
            apart,
            keep,
            env=self._env,
            timeout=_LONGEST,
        )
        return code, lines

    def _cut_off(self) -> list[str]:
        if self._prefix is None:
            self._prefix = self._find_prefix()
        return self._prefix

    def _find_prefix(self) -> list[str]:
        """`unshare`, as root or with a user of its own."""
        apart = ["unshare", "--net"]
        for prefix in (apart, [*apart, "--map-root-user"]):
            if not shutil.which("unshare", path=self._env["PATH"]):
                break
            if processes.run([*prefix, "true"], env=self._env).returncode == 0:
                return prefix
        self._note(
            "this machine cannot run a program without network (`unshare --net`): source packages are built with it "
            "here; the image builds them without, and compares"
        )
        return []


def build_wheel(
    source: Source,
    archive: Path,
    requires: Sequence[str],
    folder: Path,
    *,
    uv: Uv,
    stack: Stack,
    offline: Offline,
) -> BuiltWheel:
    """Build the wheel of an archive into `folder`. Raises `LockError` that says why it cannot be built."""
    with temporary_folder("sources") as place:
        shutil.copyfile(archive, place / source.archive)
        workplace = _Workplace(place, source, uv, stack, offline)
        tools = workplace.install_tools(requires)
        wheels = [workplace.build("first"), workplace.build("second")]
        first, second = (read_bytes(wheel, limit=1 << 30) for wheel in wheels)
        if first != second:
            raise LockError(
                f"{source.name} is built to another wheel each time ({wheels[0].name}), so its hash cannot be locked",
                hint="name a wheel of it, or make its build independent of time and chance",
            )
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / wheels[0].name
        shutil.move(wheels[0], path)
    return BuiltWheel(
        path=path,
        backend=source.backend,
        backend_path=source.backend_path,
        tools=tools,
    )


class _Workplace:
    """A folder with one archive, its tools and what is built from it."""

    def __init__(
        self, place: Path, source: Source, uv: Uv, stack: Stack, offline: Offline
    ) -> None:
        self._place = place
        self._source = source
        self._uv = uv
        self._stack = stack
        self._offline = offline
        self._python = self._find_python()

    def _find_python(self) -> str:
        """The image's Python version if this machine has it, else our own."""
        argv = [self._uv.program, "python", "find", "--no-config", "--no-project"]
        argv += ["--no-python-downloads", str(self._stack.python)]
        completed = self._uv.run(argv)
        if completed.returncode != 0:
            return sys.executable
        return completed.stdout.strip() or sys.executable

    def install_tools(self, requires: Sequence[str]) -> tuple[BuildTool, ...]:
        """The build tools, and those that the backend asks for once it runs."""
        whose = f"{self._source.name}'s"
        tools = self._source.tools or pin_tools(
            requires,
            self._uv,
            self._stack,
            whose=whose,
        )
        self._install(tools)
        if self._source.tools:
            return tools
        answers = self._place / "requires.json"
        self._run("requires", answers)
        more = json.loads(read_text(answers))[self._source.name]
        if not more:
            return tools
        wanted = [*requires, *(_build_requirement(line) for line in more)]
        tools = pin_tools(
            wanted,
            self._uv,
            self._stack,
            whose=whose,
        )
        self._install(tools)
        return tools

    def _install(self, tools: Sequence[BuildTool]) -> None:
        planned = replace(self._source, tools=tuple(tools))
        plan = plan_of(planned, None)
        write_file(self._place / PLAN, plan_text([plan]))
        requirements = self._place / f"{planned.name}.txt"
        write_file(requirements, tools_text(tools))
        environment = self._place / "tools" / planned.name
        python = environment / "bin" / "python"
        self._uv_run(
            "venv",
            "--clear",
            "--python",
            self._python,
            environment,
        )
        options = ("--no-deps", "--require-hashes", "--no-build", "--python", python)
        self._uv_run(
            "pip",
            "install",
            *options,
            "--requirements",
            requirements,
        )

    def _uv_run(self, *words: str | Path) -> None:
        argv = [self._uv.program, "--quiet", "--no-config"]
        argv += map(str, words)
        completed = self._uv.run(argv)
        if completed.returncode == 0:
            return
        lines = completed.stderr.splitlines()
        message = f"the build tools of {self._source.name} cannot be installed"
        raise LockError(message, problems=lines[-4:])

    def build(self, name: str) -> Path:
        """The wheel, in a folder of this name."""
        folder = self._place / name
        self._run("wheels", folder)
        return next(folder.glob("*.whl"))

    def _run(self, command: str, output: Path) -> None:
        program = resources.folder("sources") / PROGRAM
        tools = self._place / "tools"
        argv = [
            sys.executable,
            "-I",
            str(program),
            command,
            str(self._place),
            str(tools),
            str(output),
        ]
        code, lines = self._offline.run(argv)
        if code != 0:
            raise _failed(self._source, lines)


def _failed(source: Source, lines: Sequence[str]) -> LockError:
    """The error of a build that failed: the program's own sentence, or the last lines of the build backend."""
    prefix = f"source package {source.name}: "
    last = lines[-1] if lines else ""
    meaning = last.removeprefix(prefix)
    problems = []
    if not last.startswith(prefix) or "failed (exit code" in last:
        text = "\n".join(lines)
        meaning = _meaning_of(text)
        for line in lines[-_MOST_LINES:-1]:
            shown = grammar.one_line(line, 300)
            problems.append(shown)
    hint = "see what its build says; a wheel of it needs no build"
    if "compiles" in meaning or "torch" in meaning:
        hint = compile_hint(source.name)
    message = f"{source.name} cannot be built from its source: {meaning}"
    message = message.removesuffix(": ")
    return LockError(
        message,
        problems=problems,
        hint=hint,
    )


def _meaning_of(text: str) -> str:
    for pattern, words in _MEANINGS:
        if re.search(pattern, text):
            return words
    return ""
