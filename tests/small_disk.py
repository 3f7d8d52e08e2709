"""Runs a command in a directory on a tiny or read-only disk, in a separate mount namespace."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CAN_MOUNT = (
    os.geteuid() == 0
    and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
)
MOUNT = """
mount -t tmpfs -o size="$SIZE" tmpfs "$PLACE"
cd "$PROJECT"
printf old >envbuilder.lock
if [ -n "$FILL" ]; then dd if=/dev/zero of=filler bs=1k count=10000 2>/dev/null; fi
if [ -n "$READ_ONLY" ]; then mount -o remount,ro "$PLACE"; fi
"$@"
code=$?
cat envbuilder.lock
if [ -n "$AGAIN" ]; then
  rm -f filler
  mount -o remount,rw,size=100m "$PLACE" && rm -f filler
  "$@" >/dev/null 2>"$AGAIN"
  echo " next run: $?"
fi
exit $code
"""


def run(
    folders: Mapping[str, Path], place: str, *words: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """A command where one of its folders, `place`, is such a disk; its stdout ends with the lock that is there.

    `AGAIN=FILE`: afterwards there is room, and it is run again; `next run: CODE` follows.
    """
    env = {
        **os.environ, "TMPDIR": str(folders["tmp"]), "UV_CACHE_DIR": str(folders["cache"]), "SIZE": "8k",
        "PLACE": str(folders[place]), "PROJECT": str(folders["project"]), **settings,
    }  # fmt: skip
    argv = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        MOUNT,
        "sh",
        sys.executable,
        "-m",
        "envbuilder",
        *words,
    ]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
