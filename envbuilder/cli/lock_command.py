"""`envbuilder lock`: Stack → Lock, and whether an earlier lock still holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.shared_options import (
    json_option,
    network_options,
    print_json,
    read_lock,
    request_from,
    request_options,
    site_from,
)

if TYPE_CHECKING:
    from envbuilder.pipeline import Site


@click.command(name="lock")
@request_options
@network_options
@click.option("--output", "-o", default="envbuilder.lock", show_default=True, metavar="FILE", help="- for stdout.")
@click.option("--format", "form", type=click.Choice(["lock", "requirements"]), default="lock", show_default=True)
@click.option("--check", is_flag=True, help="Write nothing; fail if FILE is stale or the index no longer gives it.")
@json_option
def command(output: str, form: str, check: bool, as_json: bool, **options: Any) -> None:
    """Pin every wheel of a stack by hash, as the index stood on the day that fits its torch."""
    from envbuilder import lock as locks
    from envbuilder import pipeline, serialize
    from envbuilder.console import answer
    from envbuilder.files import write_file

    site = site_from(options)
    if check:
        check_lock(output, site, options, as_json=as_json)
        return
    lock = pipeline.make_lock(request_from(options), site)
    text = serialize.dumps(lock) if form == "lock" else locks.requirements_text(lock)
    if output == "-":
        answer(text, end="")
        return
    write_file(Path(output), text)
    size = sum(wheel.size for wheel in lock.wheels)
    site.console.say(f"{output}: {len(lock.wheels)} wheels, {size / 1e9:.2f} GB to download, as of {lock.stack.as_of}")
    if as_json:
        print_json({"ok": True, "file": output, "wheels": len(lock.wheels), "bytes": size, "stack": lock.stack.name})


def check_lock(name: str, site: "Site", options: dict[str, Any], *, as_json: bool) -> None:
    """Compare a lock with the request and with the index. Raises `LockError` naming every difference."""
    from envbuilder.errors import LockError
    from envbuilder.lock.drift import find_drift
    from envbuilder.model import Request
    from envbuilder.resolve import objections
    from envbuilder.resolve.command_line import command

    lock = read_lock(name)
    request = request_from(options, host=False)
    stale = [] if request == Request() else objections(request, lock.stack, site.catalog)
    drift = find_drift(lock, site.uv)
    if stale:
        again = command(request, "lock", flags=site.said)
        raise LockError(f"{name} does not answer the request", problems=stale, hint=f"make it again: `{again}`")
    if drift:
        again = command(request, "lock", flags=site.said)
        raise LockError(
            f"the index no longer gives {name} (packages that differ: {len(drift)})",
            problems=[difference.problem for difference in drift],
            hint=f"the lock still builds while its files can be downloaded; to take what the index has now: `{again}`",
        )
    site.console.say(f"{name}: {len(lock.wheels)} wheels, and the index gives the same as of {lock.stack.as_of}")
    if as_json:
        print_json({"ok": True, "file": name, "wheels": len(lock.wheels), "stack": lock.stack.name})
