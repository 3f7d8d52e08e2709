"""Options that several commands share, and the few things every command reads from its surroundings."""

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.acceptance.receipts import Store
    from envbuilder.catalog.rows import Catalog
    from envbuilder.engine.docker_client import DockerEngine
    from envbuilder.model import Lock, Request
    from envbuilder.network import Network
    from envbuilder.pipeline import Site
    from envbuilder.processes import Completed

NAMED_SETTINGS = "envbuilder.named_settings"
"""Where the context keeps the name that `--config` gives."""
_SETTINGS = "envbuilder.settings"
F = TypeVar("F", bound=Callable[..., Any])
REQUEST_OPTIONS = (
    "cuda", "cudnn", "python", "torch", "torchvision", "transformers", "gpu", "driver", "base", "os", "flavour",
    "platform", "as_of",
)  # fmt: skip


def _stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


catalog_option = click.option(
    "--catalog", "own_catalog", metavar="DIR", envvar="ENVBUILDER_CATALOG", help="A folder with rows of your own."
)
request_options = _stack(
    click.option("--cuda", metavar="X.Y", help="CUDA, as 11.7, 11.7.1, 12 or cu117."),
    click.option("--cudnn", metavar="VERSION", help="cuDNN, as 8.5."),
    click.option("--python", metavar="X.Y", help="Python, as 3.10."),
    click.option("--torch", metavar="VERSION", help="PyTorch, as 2.0 or 2.0.1."),
    click.option("--torchvision", metavar="VERSION", help="torchvision, as 0.15."),
    click.option("--transformers", metavar="VERSION", help="transformers, as 4.40."),
    click.option("--gpu", metavar="NAME", help="A GPU it must run on, as 'RTX 3090', or a compute capability, as 8.6."),
    click.option("--driver", metavar="VERSION", help="The NVIDIA driver it must run on, or its branch, as 535."),
    click.option("--base", metavar="IMAGE", help="auto (default), bootstrap, or an image of your own (with --python)."),
    click.option("--os", metavar="NAME", help="The operating system of the base, as debian12 or bookworm."),
    click.option("--flavour", metavar="NAME", help="runtime (default), devel (with nvcc; CUDA 13), cpu (no CUDA)."),
    click.option("--package", "packages", multiple=True, metavar="SPEC", help="One more package, as 'peft<0.12'."),
    click.option("--platform", metavar="OS/ARCH", help="linux/amd64 (default) or linux/arm64; also arm64, sbsa."),
    click.option("--as-of", metavar="DATE", help="Resolve packages as the index stood on this day, e.g. 2026-11-09."),
    catalog_option,
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
check_option = click.option(
    "--check", "checks", multiple=True, metavar="FILE", help="A check of your own, a Python program; repeatable."
)
lock_option = click.option("--lock", "lock_file", metavar="FILE", help="Start from a lock instead of a request.")
network_options = _stack(
    click.option("--index-url", metavar="URL", help="A package index or mirror of your own."),
    click.option("--ca-bundle", metavar="FILE", help="CA bundle, if TLS is signed by a private CA."),
)


def find_settings() -> tuple[Path, Mapping[str, Any]] | None:
    """The settings of this command and their file: what `--config` names, else what is found here or above.

    Looked up once a command; says which file it was, unless it is in this folder.
    """
    context = click.get_current_context(silent=True)
    kept = context.meta if context else {}
    if _SETTINGS not in kept:
        kept[_SETTINGS] = _look_for_settings(kept.get(NAMED_SETTINGS))
    found: tuple[Path, Mapping[str, Any]] | None = kept[_SETTINGS]
    return found


def _look_for_settings(named: str | None) -> tuple[Path, Mapping[str, Any]] | None:
    from envbuilder import config
    from envbuilder.files import own_users

    here = working_folder()
    found = config.read(Path(named)) if named else config.find(here, own_users(os.environ.get("SUDO_UID")))
    if found and here.resolve() != found[0].parent.resolve():
        from envbuilder.console import clean, complain

        complain(f"settings: {clean(str(found[0]))}")
    return found


def working_folder() -> Path:
    """The folder that the command runs in. Raises `UsageError` if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the current folder no longer exists", hint="change to one that does: `cd ~`") from error


def settings() -> Mapping[str, Any]:
    """Defaults from `envbuilder.toml` in this folder or above, or from the file that `--config` names."""
    found = find_settings()
    return found[1] if found else {}


def request_from(options: Mapping[str, Any], *, host: bool = True) -> "Request":
    """The request on the command line, on top of the settings; where both are silent, what this host asks for."""
    from envbuilder.resolve.command_line import parse_request

    defaults = settings()
    said = {name: options[name] if options.get(name) is not None else defaults.get(name) for name in REQUEST_OPTIONS}
    if host and not any(value is not None for value in said.values()):
        said |= _host(options)
    return parse_request(said, options.get("packages") or defaults.get("package", ()))


def _host(options: Mapping[str, Any]) -> dict[str, str]:
    """What this host asks of a stack, where nobody asks for anything; says so."""
    from envbuilder.console import complain
    from envbuilder.doctor import request_for_host

    facts = load_catalog(options)
    found, told = request_for_host.request_options_for(request_for_host.ask(facts), facts)
    complain(told)
    return found


def setting(options: Mapping[str, Any], name: str) -> Any:
    """An option's value, or its default in the settings; both pass the same parser. Raises `UsageError`."""
    value = options.get(name)
    if value in (None, ()):
        return settings().get(name, value)
    return _parsed(name, value)


def caches(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Sources or destinations of the build cache. Raises `UsageError` where settings name a folder by a link.

    Settings may be of another person: buildx would follow the link, and read and write where it leads.
    """
    from envbuilder.config import ROOT, local_cache_paths
    from envbuilder.files import own_users, refuse_foreign_folder, refuse_links

    values = tuple(setting(options, name))
    if options.get(name):
        return values
    users = own_users(os.environ.get("SUDO_UID")) | {ROOT}
    for value in values:
        for path in local_cache_paths(value):
            refuse_links(Path(), path)
            refuse_foreign_folder(Path(path), users)
    return values


def _parsed(name: str, value: Any) -> Any:
    """A value of the command line or the environment, after the parser of the setting of that name."""
    from envbuilder import config
    from envbuilder.resolve.command_line import option_name, quoted

    parse = config.PARSERS.get(option_name(name))
    texts = value if isinstance(value, tuple) else (value,)
    for text in texts:
        try:
            if parse:
                parse(text)
        except ValueError as error:
            message = f"--{option_name(name)} {quoted(text)}: {error}"
            raise UsageError(message, hint=f"see `--{option_name(name)}` in `--help`") from error
    return value


def own_catalog(options: Mapping[str, Any]) -> Path | None:
    """The user's own catalog: from the command line or the environment, else from the settings, beside the file."""
    if options.get("own_catalog"):
        return Path(_parsed("catalog", options["own_catalog"]))
    found = find_settings()
    return found[0].parent / found[1]["catalog"] if found and "catalog" in found[1] else None


def load_catalog(options: Mapping[str, Any]) -> "Catalog":
    """The catalog, under the user's own rows. Raises `CatalogError` naming file, row and field."""
    from envbuilder import catalog
    from envbuilder.errors import CatalogError
    from envbuilder.resolve.candidates import PREFERENCES

    own = own_catalog(options)
    loaded = catalog.load(own=own)
    unknown = [word for word in loaded.policy.preference if word not in PREFERENCES]
    if unknown:
        raise CatalogError(
            f"policy.toml: preference has {unknown[0]!r}, which is no preference",
            hint=f"the words are {', '.join(PREFERENCES)}",
        )
    return loaded


def network_from(options: Mapping[str, Any]) -> "Network":
    """The network of the options and of the surroundings; raises `UsageError` if the CA bundle is none."""
    from envbuilder.network import check_bundle, find_network

    bundle = setting(options, "ca_bundle")
    if bundle:
        check_bundle(Path(bundle))
    index_url = setting(options, "index_url")
    if index_url is None and os.environ.get("ENVBUILDER_INDEX_URL"):
        index_url = _parsed("index_url", os.environ["ENVBUILDER_INDEX_URL"])
    return find_network(os.environ, home=_home(), ca=Path(bundle) if bundle else None, index_url=index_url)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user of a container, whom nobody gave one
        return Path(os.devnull)  # nothing is in it; `~` would be a folder of the project


def site_from(options: Mapping[str, Any], *, quiet: bool = False) -> "Site":
    """Everything a command works with, from the options, the settings and the environment."""
    import uv

    from envbuilder.console import Console
    from envbuilder.lock import Uv
    from envbuilder.network import uv_environment
    from envbuilder.pipeline import Site

    network = network_from(options)
    env = uv_environment(os.environ, network)
    return Site(
        catalog=load_catalog(options),
        network=network,
        environ=dict(os.environ),
        uv=Uv(
            program=uv.find_uv_bin(),
            run=lambda argv: _run_uv(argv, env, network),
            index_url=network.index_url,
        ),
        console=Console(quiet=quiet),
        today=datetime.now(UTC).date(),
        said=said_beside(options),
        store=receipt_store(),
    )


def _run_uv(argv: Sequence[str], env: Mapping[str, str], network: "Network") -> "Completed":
    from envbuilder import processes

    done = processes.run(argv, env=env, timeout=600)
    return replace(done, stderr=network.hide_token(done.stderr))


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
    return Store(folder=Path(state) / "receipts", users=own_users(os.environ.get("SUDO_UID")))


def said_beside(options: Mapping[str, Any]) -> tuple[str, ...]:
    """What the command line said beside the request and a command to try must say again; no password, no token."""
    names = (("catalog", "own_catalog"), ("index-url", "index_url"), ("ca-bundle", "ca_bundle"))
    values = [(word, str(options[name])) for word, name in names if options.get(name)]
    return tuple(f"--{word} {_shown(word, value)}" for word, value in values)


def _shown(option: str, value: str) -> str:
    """A value as a word of a command to try; an address with a login, or with a query that may be a token, is named."""
    has_credentials = option == "index-url" and ("@" in value or "?" in value)
    return "URL" if has_credentials else shlex.quote(value)


def own_checks(options: Mapping[str, Any]) -> tuple[Path, ...]:
    """The user's own checks: from the command line, else from the settings, where they are beside the file."""
    if options["checks"]:
        return tuple(Path(name) for name in options["checks"])
    found = find_settings()
    if found is None:
        return ()
    from envbuilder.files import is_below

    folder = found[0].parent
    paths = tuple(folder / name for name in found[1].get("checks", ()))
    for path in paths:
        if not is_below(folder, path):  # by a link: its content would go into an image
            raise UsageError(f"the check {path} leads out of {folder}", hint="put the check itself there")
    return paths


def new_engine() -> "DockerEngine":
    """A connection to the container engine; `ENVBUILDER_ENGINE_TIMEOUT` is for how long it may answer nothing."""
    from envbuilder.engine.docker_client import SILENCE, DockerEngine
    from envbuilder.engine.run_id import new_run_id

    text = os.environ.get("ENVBUILDER_ENGINE_TIMEOUT")
    if text and not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise UsageError(f"ENVBUILDER_ENGINE_TIMEOUT is {text!r}", hint="give whole seconds, 1 to 9999")
    return DockerEngine(new_run_id(), silence=float(text or SILENCE))


def read_lock(name: str) -> "Lock":
    """A lock file somebody names."""
    from envbuilder.files import read_text
    from envbuilder.lock import parse_lock

    return parse_lock(read_text(Path(name), hint="make one: `envbuilder lock`"), source=name)


def print_json(document: Mapping[str, Any]) -> None:
    """The one way a command answers in JSON."""
    from envbuilder import serialize
    from envbuilder.console import answer
    from envbuilder.model import SCHEMA

    answer(serialize.dumps({"schema": SCHEMA, **document}), end="")
