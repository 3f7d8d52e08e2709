"""Record this machine, to be a test: `PYTHONPATH=tests .venv/bin/python -m hosts.record > tests/hosts/NAME.json`.

Names of servers, and everything of `docker info` that is not read, stay out.
"""

import json
import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from envbuilder import catalog
from envbuilder.host.collect import collect
from envbuilder.host.local_probe import new_probe
from envbuilder.host.parse import NOT_FOUND, read_json
from envbuilder.network import find_network

_READ = """ServerVersion Name OperatingSystem DockerRootDir SecurityOptions CgroupVersion Runtimes DefaultRuntime
CDISpecDirs DiscoveredDevices HttpProxy HttpsProxy SystemTime host store version""".split()
_ENVIRON = (
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY NVIDIA_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES "
    "LD_LIBRARY_PATH DOCKER_HOST"
).split()


def main() -> None:
    probe = new_probe(find_network(os.environ, home=Path.home()), catalog.load())
    commands: dict[str, Any] = {}
    files: dict[str, str] = {}

    def run(argv: Any) -> Any:
        return keep(argv, probe.run(argv))

    def keep(argv: Any, done: Any) -> Any:
        if done.returncode != NOT_FOUND:
            out: Any = done.stdout
            if list(argv[:2]) == ["docker", "info"]:
                out = {
                    key: value for key, value in read_json(out).items() if key in _READ
                }
                out["Runtimes"] = {name: {} for name in out.get("Runtimes") or ()}
            if list(argv[:2]) == ["docker", "version"]:
                out = ""
            if list(argv) == ["index"] and done.returncode == 0:
                done = replace(done, stderr="")
            commands[shlex.join(argv)] = [done.returncode, out, _hide(done.stderr)]
        return done

    def read(path: str) -> str | None:
        text = probe.read(path)
        if text is not None:
            files[path] = text if len(text) < 5000 else text[:5000]
        return text

    def names(folder: str) -> Any:
        listed = probe.names(folder)
        if folder not in ("/dev", "/sys/bus/pci/devices"):
            files.update({f"{folder}/{name}": "" for name in listed})
        return listed

    recorder = replace(
        probe,
        run=run,
        read=read,
        names=names,
        reach_index=lambda: keep(["index"], probe.reach_index()),
        reach_registry=lambda: keep(["registry"], probe.reach_registry()),
        start_cuda=lambda: keep(["cuda"], probe.start_cuda()),
    )
    collect(recorder)
    environ = {name: os.environ[name] for name in _ENVIRON if name in os.environ}
    recording = {
        "source": "recorded by tests/hosts/record.py",
        "expect": {},
        "commands": commands,
        "files": files,
    }
    json.dump(
        {**recording, "environ": environ}, sys.stdout, indent=1, ensure_ascii=False
    )


def _hide(text: str) -> str:
    text = re.sub(r"(https?://)[^/\s\"]+", r"\1server.example", text)
    return re.sub(r"lookup \S+ on \S+", "lookup server.example on 192.0.2.53:53", text)


if __name__ == "__main__":
    main()
