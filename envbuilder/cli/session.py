"""What a command works with: catalog, network, engine, store and console, from its options and the environment."""

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.requirement_files import index_of_files
from envbuilder.cli.settings import (
    Options,
    is_from_environment,
    own_catalog,
    project_folder,
    setting,
    settings,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.acceptance.receipts import Store
    from envbuilder.catalog.rows import Catalog
    from envbuilder.engine.docker_client import DockerEngine
    from envbuilder.lock.sources.builds import SourceBuilds
    from envbuilder.lock.uv_compile import Uv
    from envbuilder.model import Lock
    from envbuilder.network import Network
    from envbuilder.pipeline import Session
    from envbuilder.processes import Completed

_CATALOGS = "envbuilder.catalogs"
"""Where the context keeps the catalogs that it has loaded, by the folder of the user's own rows."""
_REPEATABLE = {
    "catalog": "own_catalog",
    "index-url": "index_url",
    "torch-index": "torch_index",
    "apt-mirror": "apt_mirror",
    "registry-mirror": "registry_mirror",
    "python-mirror": "python_mirror",
    "ca-bundle": "ca_bundle",
    "build-sources": "build_sources",
}

_ADDRESSES = ("index_url", "torch_index", "apt_mirror")


def load_catalog(options: Options) -> "Catalog":
    """The catalog, under the user's own rows, once a command. Raises `CatalogError` naming file, row and field."""
    own = own_catalog(options)
    context = click.get_current_context(silent=True)
    loaded: dict[Path | None, Catalog] = {}
    if context:
        loaded = context.meta.setdefault(_CATALOGS, loaded)
    if own not in loaded:
        loaded[own] = _load_catalog(own)
    return loaded[own]


def _load_catalog(own: Path | None) -> "Catalog":
    from envbuilder import catalog
    from envbuilder.errors import CatalogError
    from envbuilder.resolve.candidates import PREFERENCES

    loaded = catalog.load(own=own)
    for word in loaded.policy.preference:
        if word not in PREFERENCES:
            known = ", ".join(PREFERENCES)
            raise CatalogError(
                f"policy.toml: unknown preference {word!r}",
                hint=f"preferences: {known}",
            )
    return loaded


def network_from(options: Options) -> "Network":
    """The network of the options and the environment. Raises `UsageError` for a file that is no CA bundle."""
    from envbuilder.network import check_bundle, find_network
    from envbuilder.resolve.parsers import (
        parse_apt_mirror,
        parse_python_mirror,
        parse_registry_mirror,
    )

    bundle = setting(options, "ca_bundle")
    ca = Path(bundle) if bundle else None
    if ca:
        check_bundle(ca)
    index_url = setting(options, "index_url") or index_of_files(options)
    return find_network(
        os.environ,
        home=_home(),
        ca=ca,
        index_url=index_url,
        torch_index=setting(options, "torch_index"),
        apt_mirror=_mirror(options, "apt_mirror", parse_apt_mirror),
        registry_mirror=_mirror(options, "registry_mirror", parse_registry_mirror),
        python_mirror=_mirror(options, "python_mirror", parse_python_mirror),
    )


def _mirror(options: Options, name: str, parse: Callable[[str], str]) -> str | None:
    """The address of a mirror as its parser writes it; `setting` has refused what it does not take."""
    text = setting(options, name)
    return parse(text) if text else None


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container's user may have none
        # Nothing is in it. `~` would be a folder of the project.
        return Path(os.devnull)


def session_from(options: Options, *, quiet: bool = False) -> "Session":
    """All of it, for the pipeline."""
    from envbuilder.console import Console
    from envbuilder.lock.sources.compiled import CompileSettings
    from envbuilder.lock.sources.source_cache import cache_folder
    from envbuilder.lock.sources.workshop import SourceWorkshop
    from envbuilder.pipeline import Session

    console = Console(quiet=quiet)
    network = network_from(options)
    ask = _uv_over(network)
    catalog = load_catalog(options)
    return Session(
        catalog=catalog,
        network=network,
        environ=dict(os.environ),
        uv=ask,
        console=console,
        workshop=SourceWorkshop(
            uv=ask,
            network=network,
            environ=dict(os.environ),
            cache=lambda: cache_folder(os.environ),
            project=project_folder(),
            say=console.say,
            note=console.note,
            builds=_builds(options),
            compiling=CompileSettings(
                allowed=_compiled(options),
                recipes=catalog.policy.sources,
                devel=catalog.policy.devel,
            ),
        ),
        today=datetime.now(UTC).date(),
        said=repeatable_flags(options),
        store=receipt_store(),
        verb=click.get_current_context().info_name or "resolve",
        in_project="render" in settings(),
    )


def index_reader(options: Options) -> "Uv":
    """The way to the package index, for a look at its pages."""
    return _uv_over(network_from(options))


def _uv_over(network: "Network") -> "Uv":
    import uv

    from envbuilder.lock.index_client import IndexClient
    from envbuilder.lock.uv_compile import Uv
    from envbuilder.network import uv_environment

    env = uv_environment(os.environ, network)
    return Uv(
        program=uv.find_uv_bin(),
        run=lambda argv: _run_uv(argv, env, network),
        index_url=network.index_url,
        torch_index=network.torch_index,
        client=IndexClient(network=network),
    )


def _builds(options: Options) -> "SourceBuilds | None":
    """Which source packages may be built here; None if nobody said: packages of the settings are not built then.

    Somebody else may have written the settings, and a build runs a program of the package on this machine.
    """
    from envbuilder.lock.sources.builds import SourceBuilds

    value = options.get("build_sources")
    if value:
        return SourceBuilds(value)
    if options.get("packages") or options.get("requirements"):
        return SourceBuilds.ALL
    return None


def _compiled(options: Options) -> frozenset[str]:
    """The packages that may be compiled: the command line alone permits it, as it may take hours."""
    from packaging.utils import canonicalize_name

    from envbuilder import grammar

    names = set()
    for name in options.get("compile_names") or ():
        canonical = canonicalize_name(name)
        if not grammar.matches(grammar.Project, canonical):
            raise UsageError(
                f"--compile {name[:60]!r} is not {grammar.words(grammar.Project)}",
                hint="name the package alone: `--compile torch-scatter`",
            )
        names.add(canonical)
    return frozenset(names)


def session_beside(session: "Session", lock_file: str | None) -> "Session":
    """The session, which looks for local packages next to this lock too."""
    if lock_file is None or session.workshop is None:
        return session
    return replace(session, workshop=session.workshop.beside(Path(lock_file)))


def archives_of(
    lock: "Lock", session: "Session", folder: Path = Path()
) -> Mapping[str, bytes]:
    """The archives of a lock's sources, for the repository in `folder`."""
    from envbuilder.render.context import sources_place
    from envbuilder.render.project import CONTEXT

    if not lock.sources or session.workshop is None:
        return {}
    near = folder / CONTEXT / sources_place(lock.stack)
    return session.workshop.archives(lock, near=[near])


def _run_uv(
    argv: Sequence[str], env: Mapping[str, str], network: "Network"
) -> "Completed":
    from envbuilder import processes

    # uv itself gives up after 30 silent seconds; a wheel without a hash on its index is downloaded to compute one.
    completed = processes.run(argv, env=env, timeout=3600)
    return replace(completed, stderr=network.hide_token(completed.stderr))


def receipt_store() -> "Store | None":
    """Where this user's receipts are kept: `ENVBUILDER_STATE_DIR`, or the folder for a program's state.

    None for a user without a home: `~` would be a folder of the project then.
    """
    import platformdirs

    from envbuilder.acceptance.receipts import Store
    from envbuilder.files import own_users

    state = os.environ.get("ENVBUILDER_STATE_DIR")
    if not state:
        with suppress(RuntimeError):
            state = platformdirs.user_state_dir("envbuilder", appauthor=False)
    if not state or not Path(state).is_absolute():
        return None
    return Store(
        folder=Path(state) / "receipts", users=own_users(os.environ.get("SUDO_UID"))
    )


def repeatable_flags(options: Options) -> tuple[str, ...]:
    """The options next to the request that a suggested command must repeat; without passwords and tokens."""
    flags = []
    for name in options.get("requirements") or ():
        flags.append(f"-r {shlex.quote(name)}")
    for name in options.get("compile_names") or ():
        flags.append(f"--compile {shlex.quote(name)}")
    for word, name in _REPEATABLE.items():
        value = str(options.get(name) or "")
        if is_from_environment(name):  # the suggested command will find it there
            continue
        # The login of an address is a secret, and its query may be a token.
        if name in _ADDRESSES and ("@" in value or "?" in value):
            flags.append(f"--{word} URL")
        elif value:
            flags.append(f"--{word} {shlex.quote(value)}")
    return tuple(flags)


def new_engine(patience: float | None = None) -> "DockerEngine":
    """A connection to the container engine; `ENVBUILDER_ENGINE_TIMEOUT` limits how long it may be silent.

    `patience`: seconds after which an engine is given up that a command can do without.
    """
    from envbuilder.engine.docker_client import SILENCE, DockerEngine
    from envbuilder.engine.run_id import new_run_id

    text = os.environ.get("ENVBUILDER_ENGINE_TIMEOUT")
    if text and not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise UsageError(
            f"ENVBUILDER_ENGINE_TIMEOUT is {text!r}",
            hint="set it to whole seconds, 1 to 9999",
        )
    silence = float(text or SILENCE)
    if patience is not None:
        silence = min(silence, patience)
    return DockerEngine(new_run_id(), silence=silence)


def read_lock(name: str, *, hint: str = "check the path") -> "Lock":
    """The lock in a file that the user names; the hint is for a file that does not exist."""
    from envbuilder.files import read_text
    from envbuilder.lock.lock_file import parse_lock

    try:
        text = read_text(Path(name), hint="name the file of a lock")
    except UsageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            message = f"the lock {name} does not exist"
            raise UsageError(message, hint=hint) from error
        raise
    return parse_lock(text, source=name)


def print_json(document: Mapping[str, Any]) -> None:
    """Print the JSON document that answers a command."""
    from envbuilder import serialize
    from envbuilder.console import answer
    from envbuilder.model import SCHEMA

    answer(serialize.dumps({"schema": SCHEMA, **document}), end="")
