"""Stand-ins for the programs that the pipeline starts: `docker buildx build` and `mmdebstrap`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DOCKER = """#!/bin/sh
# Writes down how it was called, says what it is to say, and leaves the image's id where it is asked to.
here=$(dirname "$0")
printf '%s\\n' "$@" >"$here/docker.argv"
env >"$here/docker.env"
for word; do
  [ "$before" = --iidfile ] && target=$word
  before=$word
done
if [ -f "$here/docker.once" ]; then
  cat "$here/docker.once"
  rm "$here/docker.once"
  exit 1
fi
cat "$here/docker.output"
[ -f "$here/docker.waits" ] && exec sleep 300
if [ -f "$here/docker.lingers" ]; then
  trap 'touch "$here/docker.interrupted"' INT
  touch "$here/docker.lingering"
  until [ -f "$here/docker.may-end" ]; do sleep 0.05; done
  exit 130
fi
[ -f "$here/docker.image" ] && cp "$here/docker.image" "$target"
exit "$(cat "$here/docker.code")"
"""
_MMDEBSTRAP = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$@" >"$here/mmdebstrap.argv"
for target; do :; done
cat "$here/mmdebstrap.output"
echo "a file system" >"$target"
exit "$(cat "$here/mmdebstrap.code")"
"""


def vertex(name: str, **fields: object) -> dict[str, object]:
    return {
        "digest": f"sha256:{name}",
        "name": name,
        "started": "2026-01-01T00:00:00Z",
        **fields,
    }


@dataclass(frozen=True)
class Programs:
    """A folder for the front of PATH."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        for name, text in (("docker", _DOCKER), ("mmdebstrap", _MMDEBSTRAP)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)
            self.answer(name)

    def answer(self, name: str, code: int = 0, output: str = "") -> None:
        """How a program ends, and what it says before that."""
        (self.folder / f"{name}.code").write_text(str(code))
        (self.folder / f"{name}.output").write_text(output)

    def builds(self, image: str | None, *, cached: int = 1, steps: int = 2) -> None:
        """The builder ends well with this image, or without one."""
        done = "2026-01-01T00:00:01Z"
        vertexes = [
            vertex(
                f"[stage-1 {n + 1}/{steps}] RUN step {n}",
                completed=done,
                cached=n < cached,
            )
            for n in range(steps)
        ]
        self.answer("docker", output=json.dumps({"vertexes": vertexes}) + "\n")
        if image:
            (self.folder / "docker.image").write_text(image + "\n")
        else:
            (self.folder / "docker.image").unlink(missing_ok=True)

    def fail_once(self, output: str) -> None:
        """The builder says this and fails, the next time only."""
        (self.folder / "docker.once").write_text(output)

    def wait(self) -> None:
        """The builder does not end by itself."""
        (self.folder / "docker.waits").touch()

    def linger(self) -> None:
        """The builder does not end by itself, and when it is interrupted only once it may."""
        (self.folder / "docker.lingers").touch()

    def is_lingering(self) -> bool:
        return (self.folder / "docker.lingering").exists()

    def was_interrupted(self) -> bool:
        return (self.folder / "docker.interrupted").exists()

    def may_end(self) -> None:
        (self.folder / "docker.may-end").touch()

    def asked(self, name: str) -> list[str]:
        """The words that a program was last started with; none if it never was."""
        path = self.folder / f"{name}.argv"
        return path.read_text().splitlines() if path.is_file() else []

    def environment(self) -> Mapping[str, str]:
        """The variables of the last build."""
        lines = (self.folder / "docker.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
