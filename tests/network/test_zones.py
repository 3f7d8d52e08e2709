"""A lock does not depend on the time zone of the machine that makes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[2] / "docker" / "images"
ZONES = Path("/usr/share/zoneinfo")
LOCALTIME = Path("/etc/localtime")
# A day so old that its index no longer changes.
COMMITTED = IMAGES / "cu117-torch2.0.1-py3.9-debian11" / "envbuilder.lock"


def in_zone(zone: str, *words: str) -> list[str]:
    """Run `words` in a mount namespace where /etc/localtime is the zone's file."""
    script = f'mount --bind {ZONES / zone} "$(readlink -f {LOCALTIME})" && exec "$@"'
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *root, "sh", "-c", script, "sh", *words]


@pytest.mark.parametrize(
    "zone", ["Etc/UTC", "Pacific/Kiritimati", "America/Los_Angeles"]
)
def test_the_lock_is_the_same_in_every_time_zone(tmp_path: Path, zone: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "TZ"}
    # Proves that the zone took effect: this is a separate process, like uv.
    offset = subprocess.run(
        in_zone(zone, "date", "+%z"),
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert offset.stdout.strip() in {
        "Etc/UTC": "+0000",
        "Pacific/Kiritimati": "+1400",
    }.get(zone, "-0800 -0700")
    words = [
        sys.executable,
        "-m",
        "envbuilder",
        "lock",
        "--cuda",
        "11.7",
        "--base",
        "bootstrap",
    ]
    for variables in ({}, {"TZ": zone}):
        argv = in_zone(zone, *words)
        done = subprocess.run(
            argv,
            cwd=tmp_path,
            env={**environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "envbuilder.lock").read_bytes() == COMMITTED.read_bytes()
