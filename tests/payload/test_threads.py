"""How many threads a CPU quota leaves, read from control groups of both versions."""

import subprocess
from pathlib import Path

import pytest

from .conftest import PAYLOAD

NESTED = "/kubepods/pod1/container"


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n", encoding="ascii")


def v1(folder: str, quota: int, period: int = 100000) -> dict[str, str]:
    return {
        f"{folder}/cpu.cfs_quota_us": str(quota),
        f"{folder}/cpu.cfs_period_us": str(period),
    }


CASES = {
    "v2, own namespace": ("0::/", {"cpu.max": "200000 100000"}, "2"),
    "v2, no quota": ("0::/", {"cpu.max": "max 100000"}, ""),
    "v2, less than one": ("0::/", {"cpu.max": "25000 100000"}, "1"),
    "v2, one and a half": ("0::/", {"cpu.max": "150000 100000"}, "1"),
    "v2, path of the host": (f"0::{NESTED}", {f"{NESTED[1:]}/cpu.max": "300000 100000"}, "3"),
    "v2, the pod has less": (
        f"0::{NESTED}",
        {
            f"{NESTED[1:]}/cpu.max": "800000 100000",
            "kubepods/pod1/cpu.max": "400000 100000",
        },
        "4",
    ),
    "v2, broken": ("0::/", {"cpu.max": "x y z"}, ""),
    "v2, period 0": ("0::/", {"cpu.max": "100000 0"}, ""),
    "v1": ("4:memory:/a\n3:cpu:/docker/a", v1("cpu", 100000), "1"),
    "v1, joined": ("3:cpu,cpuacct:/docker/a", v1("cpu,cpuacct", 500000), "5"),
    "v1, no quota": ("3:cpu:/", v1("cpu", -1), ""),
    "v1, path of the host": ("3:cpu:/docker/a", v1("cpu/docker/a", 30000, 10000), "3"),
    "v1 beside v2": ("3:cpu:/\n0::/", v1("cpu", 200000), "2"),
    "nothing": ("", {}, ""),
}  # fmt: skip


def test_quota_is_read_from_both_versions_of_cgroups(tmp_path: Path) -> None:
    script = []
    for number, (membership, files, _) in enumerate(CASES.values()):
        root = tmp_path / str(number)
        write(root / "cgroup", files)
        write(root, {"membership": membership})
        script.append(f'cpu_quota "{root}/cgroup" "{root}/membership"')
    answer = shell(" && ".join(script))
    expected = [quota for _, _, quota in CASES.values()]
    assert dict(zip(CASES, answer.stdout.splitlines(), strict=True)) == dict(
        zip(CASES, expected, strict=True)
    )
    assert answer.stderr == ""


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that has read `threads`, as strictly as the entrypoint does."""
    return subprocess.run(
        ["sh", "-euc", f'. "{PAYLOAD}/threads"; {script}'],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )


@pytest.mark.parametrize(
    ("quota", "cpus", "threads"),
    [("2", "8", "2"), ("8", "8", ""), ("", "8", "")],
)
def test_threads_are_limited_aloud_and_only_by_a_quota(
    quota: str, cpus: str, threads: str
) -> None:
    fakes = f"nproc() {{ echo {cpus}; }}; cpu_quota() {{ echo {quota}; }}"
    answer = shell(f'{fakes}; limit_threads; echo "${{OMP_NUM_THREADS:-}}"')
    assert answer.stdout == f"{threads}\n"
    line = ""
    if threads:
        line = f"the CPU quota of this container allows {quota} of {cpus} CPUs: OMP_NUM_THREADS={threads}\n"
    assert answer.stderr == line


def test_threads_that_are_set_stay() -> None:
    fakes = "nproc() { echo 8; }; cpu_quota() { echo 2; }"
    answer = shell(
        f'{fakes}; OMP_NUM_THREADS=6; limit_threads; echo "$OMP_NUM_THREADS"'
    )
    assert (answer.stdout, answer.stderr) == ("6\n", "")
