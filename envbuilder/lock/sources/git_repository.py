"""One commit of a git repository as an archive; git is asked in a way that runs nothing of the repository's."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from envbuilder import grammar
from envbuilder.errors import EngineError, LockError, UsageError
from envbuilder.files import temporary_folder, write_file
from envbuilder.grammar import matches
from envbuilder.lock.sources.folder_files import GIT_QUIET, MOST_BYTES
from envbuilder.lock.sources.source_archive import pack, unpacked
from envbuilder.network import Network, find_network_cause
from envbuilder.processes import Completed

RunGit = Callable[[Sequence[str]], Completed]
_DESCRIBED = re.compile(r"([0-9][0-9A-Za-z.]*)-([0-9]{1,6})-g([0-9a-f]{4,40})\Z")
_UNREACHABLE = re.compile(
    r"Failed to connect|Could not resolve|unable to look up|Connection refused|Connection timed out|Operation timed out"
)
_ALL_REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
LONGEST = 600  # seconds of one command of git's
_HOST_SETTINGS = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CONFIG_HOME")
_AGENT = ("SSH_AUTH_SOCK", "SSH_AGENT_PID")
# No attribute of the repository's changes a file: an archive holds what was committed.
_ATTRIBUTES = (
    "* -export-ignore -export-subst -filter -ident -text -eol -working-tree-encoding\n"
)
_OPTIONS = (
    *GIT_QUIET,
    *("-c", "protocol.ext.allow=never", "-c", "core.autocrlf=false"),
    *("-c", "core.attributesFile=/dev/null", "-c", "gc.auto=0"),
)


def git_environment(environ: Mapping[str, str], network: Network) -> dict[str, str]:
    """The environment that git runs in: the user's own settings and keys, and no other variable of git's."""
    kept = (*_HOST_SETTINGS, *_AGENT)
    env = {name: environ[name] for name in kept if name in environ}
    env |= network.proxies or {}
    env["GIT_TERMINAL_PROMPT"] = "0"
    env["GIT_ALLOW_PROTOCOL"] = "file:http:https:ssh"
    env["GIT_ASKPASS"] = env["SSH_ASKPASS"] = "true"
    # The user's own way to SSH, else one that does not ask.
    env["GIT_SSH_COMMAND"] = environ.get("GIT_SSH_COMMAND") or "ssh -o BatchMode=yes"
    if network.ca:
        env["GIT_SSL_CAINFO"] = str(network.ca)
    return env


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """One commit and its files."""

    commit: str
    archive: bytes


def described_version(folder: Path, commit: str, run: RunGit) -> str:
    """`1.2` for a commit with the tag v1.2, `1.2.post5+gabc1234` for the fifth after it; "" without such a tag."""
    argv = ["git", *_OPTIONS, "-C", str(folder), "describe", "--tags", "--long"]
    completed = run([*argv, "--match=*[0-9]*", commit])
    described = _DESCRIBED.search(completed.stdout.strip())
    if completed.returncode != 0 or not described:
        return ""
    number, count, digits = described.groups()
    try:
        version = Version(number)
    except InvalidVersion:
        return ""
    if count == "0":
        return str(version)
    return f"{version.base_version}.post{count}+g{digits}"


class GitRepository:
    """A repository, by its address, of which commits are fetched into a temporary folder."""

    def __init__(self, url: str, run: RunGit) -> None:
        self._url = url
        self._run = run

    def find_commit(self, ref: str) -> str:
        """The commit of a tag, a branch or, for "", of the default branch. Raises `UsageError` if there is none."""
        if matches(grammar.Commit, ref):
            return ref
        patterns = [f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}"]
        if not ref:
            patterns = ["HEAD"]
        completed = self._git(
            "ls-remote",
            "--",
            self._url,
            *patterns,
        )
        commits = {}
        for line in completed.stdout.splitlines():
            commit, _, name = line.partition("\t")
            commits[name] = commit
        for pattern in patterns:
            commit = commits.get(pattern, "")
            if matches(grammar.Commit, commit):
                return commit
        place = f"no tag and no branch {ref!r}" if ref else "no default branch"
        raise UsageError(
            f"{self._url} has {place}",
            hint=f"see what it has: `git ls-remote {self._url}`; an abbreviated commit needs all its 40 digits",
        )

    def describe(self, commit: str) -> str:
        """The version that the newest tag before a commit gives; "" if there is none.

        For packages that ask git for their version; it needs the history, without its files where the server can.
        """
        with temporary_folder("git") as folder:
            self._prepare(folder)
            fetch = [*_fetch_words(folder), "--filter=tree:0", "--", self._url]
            fetched = self._try(*fetch, *_ALL_REFS)
            if fetched.returncode != 0:
                return ""
            return described_version(
                folder,
                commit,
                self._run,
            )

    def has_commit(self, commit: str) -> bool:
        """Whether a commit can still be fetched. Raises `EngineError` if the repository cannot be reached."""
        with temporary_folder("git") as folder:
            self._prepare(folder)
            return self._fetch(folder, commit)

    def check_out(self, commit: str) -> Checkout:
        """The files of a commit. Raises `UsageError` if the repository does not have it."""
        with temporary_folder("git") as folder:
            self._prepare(folder)
            if not self._fetch(folder, commit):
                raise UsageError(
                    f"{self._url} has no commit {commit}",
                    hint="take one that is on a branch or a tag there",
                )
            tar = folder / "archive.tar"
            self._git(
                *("-C", str(folder), "archive", "--format=tar"),
                *(f"--output={tar}", commit),
            )
            if tar.stat().st_size > MOST_BYTES:
                message = f"{self._url} at {commit} has more than {MOST_BYTES >> 20} MB"
                hint = "a wheel at an address may be larger: `--package https://HOST/…`"
                raise UsageError(message, hint=hint)
            return Checkout(commit=commit, archive=pack(unpacked(tar)))

    def _prepare(self, folder: Path) -> None:
        self._git("init", "--quiet", "--bare", "--template=", "--", str(folder))
        write_file(folder / "info" / "attributes", _ATTRIBUTES)

    def _fetch(self, folder: Path, commit: str) -> bool:
        """Fetch one commit; where the server gives none by its number, every branch and tag."""
        fetch = _fetch_words(folder)
        alone = self._try(
            *fetch,
            "--no-tags",
            "--depth=1",
            "--",
            self._url,
            commit,
        )
        if alone.returncode == 0:
            return True
        self._git(
            *fetch,
            "--",
            self._url,
            *_ALL_REFS,
        )
        place = ("-C", str(folder))
        asked = self._try(
            *place,
            "cat-file",
            "-e",
            f"{commit}^{{commit}}",
        )
        return asked.returncode == 0

    def _git(self, *words: str) -> Completed:
        completed = self._try(*words)
        if completed.returncode != 0:
            raise self._failed(completed)
        return completed

    def _try(self, *words: str) -> Completed:
        return self._run(["git", *_OPTIONS, *words])

    def _failed(self, completed: Completed) -> EngineError | LockError:
        lines = [line.strip() for line in completed.stderr.splitlines() if line.strip()]
        if _UNREACHABLE.search(completed.stderr):
            return EngineError(
                f"{self._url} cannot be reached",
                problems=lines[:4],
                hint=f"check the network and the proxy (`HTTPS_PROXY`): `git ls-remote {self._url}`",
            )
        cause = find_network_cause(completed.stderr)
        if cause:
            reason, hint = cause
            return EngineError(
                f"{self._url} cannot be reached: {reason}",
                problems=lines[:4],
                hint=hint,
            )
        return LockError(
            f"{self._url} cannot be read by git",
            problems=lines[:4],
            hint=f"check the address and your permission: `git ls-remote {self._url}`",
        )


def _fetch_words(folder: Path) -> list[str]:
    """A fetch into the repository in `folder`, without submodules."""
    words = ["-C", str(folder), "fetch", "--quiet"]
    return [*words, "--no-recurse-submodules", "--no-write-fetch-head"]
