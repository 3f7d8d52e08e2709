"""The settings of a command: its options, the environment behind them, and envbuilder.toml."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from envbuilder.errors import UsageError

REQUEST_OPTIONS = (
    "cuda", "cudnn", "python", "torch", "torchvision", "transformers", "gpu", "driver", "base", "os", "flavour",
    "platform", "as_of",
)  # fmt: skip
NAMED_SETTINGS = "envbuilder.named_settings"
"""Where the context keeps the file that `--config` names."""
_SETTINGS = "envbuilder.settings"
Options = Mapping[str, Any]
"""The values of a command's options, by the names of its parameters."""
Found = tuple[Path, Options]
"""A file of settings and what is in it."""


def find_settings() -> Found | None:
    """The settings of this command and their file: the one that `--config` names, else one found here or above.

    Looked up once a command; prints which file it was, unless it is in this folder.
    """
    context = click.get_current_context(silent=True)
    cache = context.meta if context else {}
    if _SETTINGS not in cache:
        cache[_SETTINGS] = _look_for_settings(cache.get(NAMED_SETTINGS))
    settings_found: Found | None = cache[_SETTINGS]
    return settings_found


def _look_for_settings(named: str | None) -> Found | None:
    from envbuilder import config
    from envbuilder.files import own_users

    folder = working_folder()
    if named:
        found: Found | None = config.read(Path(named))
    else:
        found = config.find(folder, own_users(os.environ.get("SUDO_UID")))
    if found and folder.resolve() != found[0].parent.resolve():
        from envbuilder.console import clean, complain

        complain(f"settings: {clean(str(found[0]))}")
    return found


def working_folder() -> Path:
    """The folder that the command runs in. Raises `UsageError` if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the current folder no longer exists",
            hint="change to one that does: `cd ~`",
        ) from error


def project_folder() -> Path:
    """Where relative paths of packages begin: the folder of envbuilder.toml, or else this one."""
    found = find_settings()
    return found[0].parent.absolute() if found else working_folder()


def settings() -> Options:
    """Defaults from `envbuilder.toml` in this folder or above, or from the file that `--config` names."""
    found = find_settings()
    return found[1] if found else {}


def targets_of(table: Options) -> list[str]:
    """The targets that `[render]` names. Raises `UsageError` with the file for one that does not exist."""
    from envbuilder.render.targets import check_target

    names = list(table.get("targets", ()))
    found = find_settings()
    for name in names:
        try:
            check_target(name)
        except UsageError as error:
            file = found[0] if found else ""
            raise UsageError(
                f"{file}: {error.message} ([render], targets)",
                hint=error.hint.replace("--target ", ""),
            ) from error
    return names


def setting(options: Options, name: str) -> Any:
    """An option's value, or its default in the settings; both pass the same parser. Raises `UsageError`."""
    value = options.get(name)
    if value in (None, ()):
        return settings().get(name, value)
    return _checked(name, value)


def _checked(name: str, value: Any) -> Any:
    """A value of the command line or the environment, checked like the setting of that name."""
    from envbuilder import config
    from envbuilder.resolve.command_line import quoted
    from envbuilder.resolve.option_row import option_name

    option = option_name(name)
    parse = config.PARSERS.get(option)
    if parse is None:
        return value
    for text in value if isinstance(value, tuple) else (value,):
        try:
            parse(text)
        except ValueError as error:
            message = f"{origin_of(name)} {quoted(text)}: {error}"
            raise UsageError(message, hint=f"see `--{option}` in `--help`") from error
    return value


def origin_of(name: str) -> str:
    """`--index-url`, or the variable that gave its value."""
    from envbuilder.resolve.option_row import option_name

    option = option_name(name)
    return variable_of(option) if is_from_environment(name) else f"--{option}"


def variable_of(option: str) -> str:
    """`as-of` → `ENVBUILDER_AS_OF`."""
    return f"ENVBUILDER_{option.upper().replace('-', '_')}"


def is_from_environment(name: str) -> bool:
    """Whether an environment variable gave the value of this parameter."""
    context = click.get_current_context(silent=True)
    if context is None:
        return False
    source = context.get_parameter_source(name)
    return source is click.core.ParameterSource.ENVIRONMENT


def was_given(options: Options, *names: str) -> bool:
    """Whether the command line itself gives one of these; the environment only gives defaults, like the settings."""
    for name in names:
        if options.get(name) not in (None, (), False) and not is_from_environment(name):
            return True
    return False


def caches(options: Options, name: str) -> tuple[str, ...]:
    """Sources or destinations of the build cache. Raises `UsageError` if the settings name a folder through a link.

    Another person may have written the settings: buildx would follow the link, and read and write where it leads.
    """
    from envbuilder.config import ROOT, local_cache_paths
    from envbuilder.files import own_users, refuse_foreign_folder, refuse_links

    values = tuple(setting(options, name))
    if options.get(name):
        return values
    caller = os.environ.get("SUDO_UID")
    users = own_users(caller) | {ROOT}
    for value in values:
        for path in local_cache_paths(value):
            refuse_links(Path(), path)
            refuse_foreign_folder(Path(path), users)
    return values


def own_catalog(options: Options) -> Path | None:
    """The user's own catalog: of the command line or the environment, else of the settings, relative to their file."""
    if options.get("own_catalog"):
        return Path(_checked("catalog", options["own_catalog"]))
    found = find_settings()
    if found is None or "catalog" not in found[1]:
        return None
    file, table = found
    return file.parent / str(table["catalog"])


def own_checks(options: Options) -> tuple[Path, ...]:
    """The user's own checks: of the command line, else of the settings, relative to their file."""
    if options["checks"]:
        return tuple(Path(name) for name in options["checks"])
    found = find_settings()
    if found is None:
        return ()
    from envbuilder.files import is_below

    folder = found[0].parent
    paths = tuple(folder / name for name in found[1].get("checks", ()))
    for path in paths:
        # A link could lead to any file of the user's, whose content would go into an image.
        if not is_below(folder, path):
            raise UsageError(
                f"the check {path} leads out of {folder}",
                hint="put the file itself there",
            )
    return paths
