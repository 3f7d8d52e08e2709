"""The programs in payload/bin that launchers start: `as-owner`, `health` and `launch`, with stand-ins around them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from marks import few

from .conftest import PAYLOAD

PROGRAMS = ("as-owner", "health", "launch")
TORCHRUN = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"


class Image:
    """A copy of the payload; the image's paths are directories next to it, and commands are stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.commands = folder / "commands"
        self.payload = folder / "payload"
        for name in ("commands", "workspace", "workspace/runs"):
            (folder / name).mkdir()
        shutil.copytree(PAYLOAD, self.payload)
        for name in PROGRAMS:
            text = (PAYLOAD / "bin" / name).read_text()
            for path in ("/workspace", "/proc/driver", "/dev/nvidiactl"):
                text = text.replace(path, f"{folder}{path}")
            text = text.replace("/cache/huggingface", "").replace(
                "/cache", ""
            )  # the caches are volumes
            self.program(self.payload / "bin" / name, text)
        self.program(self.payload / "entrypoint", '#!/bin/sh\necho "started $*"\n')

    @staticmethod
    def program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def stand_in(self, name: str, line: str) -> None:
        self.program(self.commands / name, f"#!/bin/sh\n{line}\n")

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.commands}:{Path(sys.executable).parent}:/usr/bin:/bin"
        command = [str(self.payload / "bin" / words[0]), *words[1:]]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": path, **env},
        )


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def test_shellcheck_reports_nothing() -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert shellcheck, "run `make setup`"
    names = [*PROGRAMS, "../entrypoint", "train", "finetune", "accept", "predict"]
    words = [shellcheck, "--severity=style", "--exclude=SC1091"]
    words += [str(PAYLOAD / "bin" / name) for name in names]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# --- as-owner --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "device", "visible", "warned"),
    few(
        [
            (True, False, "all", True),
            (True, True, "all", False),
            (False, False, "all", False),
            (True, False, "void", False),
            (True, False, None, False),  # an image without CUDA
        ],
        fast=2,
    ),
)
def test_as_owner_warns_if_the_container_lacks_a_gpu(
    image: Image, driver: bool, device: bool, visible: str | None, warned: bool
) -> None:
    image.stand_in("id", "echo 1000")
    for exists, name in (
        (driver, "proc/driver/nvidia/version"),
        (device, "dev/nvidiactl"),
    ):
        if exists:
            (image.root / name).parent.mkdir(parents=True)
            (image.root / name).touch()
    done = image.run(
        "as-owner", "job", **({"NVIDIA_VISIBLE_DEVICES": visible} if visible else {})
    )
    assert (done.returncode, done.stdout) == (0, "started job\n"), done.stderr
    assert ("add compose.gpu.yaml to COMPOSE_FILE" in done.stderr) is warned


@pytest.mark.parametrize(
    ("link", "owner", "code"),
    few([(False, 0, 0), (True, 0, 2), (False, 1000, 0), (True, 1000, 0)], fast=2),
)
def test_as_owner_does_not_change_root_folders_behind_links(
    image: Image, link: bool, owner: int, code: int
) -> None:
    """`runs` may lead to /etc of the host; in the container it is a link, since the project is mounted as it is."""
    runs = image.root / "workspace" / "runs"
    if link:
        runs.rmdir()
        (image.root / "outside").mkdir()
        runs.symlink_to("../outside")
    stand_ins = {
        "id": "echo 0",
        "stat": f"echo {owner}",
        "chown": 'echo "chown $*"',
        "setpriv": 'echo "setpriv $*"',
    }
    for name, line in stand_ins.items():
        image.stand_in(name, line)
    done = image.run("as-owner", "job", "an argument", HOST_UID="7", HOST_GID="8")
    assert done.returncode == code, done.stderr
    words = "setpriv --reuid=7 --regid=8 --clear-groups --inh-caps=-all "
    assert (
        f"{words}{image.payload}/bin/../entrypoint job an argument\n" in done.stdout
    ) is (code == 0)
    assert (f"chown 7:8 {runs}\n" in done.stdout) is (owner == 0 and not link)
    assert ("is a link to a directory owned by root" in done.stderr) is (code != 0)


# --- health ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "gpu", "code"),
    few(
        [
            (102401, None, 0),
            (102400, None, 1),
            (102401, 0, 0),
            (102401, 9, 9),
            (102400, 0, 1),
        ],
        fast=2,
    ),
)
def test_health_wants_room_for_results_and_the_gpu(
    image: Image, free: int, gpu: int | None, code: int
) -> None:
    image.stand_in("df", f"printf ' Avail\\n{free}\\n'")
    if gpu is not None:
        image.stand_in("nvidia-smi", f"exit {gpu}")
    assert image.run("health").returncode == code


@pytest.mark.slow
def test_health_asks_a_server(image: Image) -> None:
    (image.root / "page").touch()
    assert image.run("health", f"file://{image.root}/page").returncode == 0
    assert image.run("health", f"file://{image.root}/none").returncode == 1


# --- launch ----------------------------------------------------------------------------------------------------------

ON_TWO = ["--nodes=2", "--processes", "3", "--rendezvous", "first:29400", "--id=a run"]


@pytest.fixture
def node(image: Image) -> Image:
    image.program(image.commands / "torchrun", TORCHRUN)
    image.stand_in("uname", "echo here")
    return image


def launched(image: Image, *words: str, **env: str) -> list[str]:
    """What torchrun is started with."""
    done = image.run("launch", *words, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def torchrun_words(conf: str, *address: str) -> list[str]:
    return [
        "--nnodes=2", "--nproc_per_node=3", "--max_restarts=3", "--rdzv_backend=c10d", "--rdzv_endpoint=first:29400",
        "--rdzv_id=a run", f"--rdzv_conf={conf}read_timeout=900,join_timeout=900", *address,
        "--no_python", "train", "--output", "runs/a b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("env", "words"),
    few(
        [
            ({}, torchrun_words("")),
            ({"JOB_COMPLETION_INDEX": "0"}, torchrun_words("is_host=true,")),
            ({"PET_NODE_RANK": "1"}, torchrun_words("is_host=false,")),
            (
                {"SLURM_NODEID": "1", "SLURMD_NODENAME": "n1"},
                torchrun_words("is_host=false,", "--local_addr=n1"),
            ),
        ]
    ),
    ids=["compose", "job", "trainjob", "slurm"],
)
def test_launch_passes_scheduler_settings_to_torchrun(
    node: Image, env: dict[str, str], words: list[str]
) -> None:
    assert launched(node, *ON_TWO, "train", "--output", "runs/a b", **env) == words


@pytest.mark.slow
def test_launch_takes_rank_and_address_as_options(node: Image) -> None:
    train = ["train", "--output", "runs/a b"]
    assert launched(
        node, *ON_TWO, "--rank", "0", "--address", "x", *train, PET_NODE_RANK="1"
    ) == torchrun_words("is_host=true,", "--local_addr=x")
    assert launched(node, *ON_TWO, "--domain=jobs", *train) == torchrun_words(
        "", "--local_addr=here.jobs"
    )


def test_launch_on_one_node_needs_no_rendezvous(node: Image) -> None:
    start = ["--nnodes=1", "--nproc_per_node=1", "--max_restarts=0"]
    start += ["--standalone", "--local_addr=127.0.0.1"]
    assert launched(node, "--max-restarts", "0", "mine.py", "--more") == [
        *start,
        "mine.py",
        "--more",
    ]
    assert launched(node, "--max-restarts", "0", "mine", "--more") == [
        *start,
        "--no_python",
        "mine",
        "--more",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    few(
        [
            (
                [*ON_TWO, "train", "--epochs", "none"],
                "train: error: argument --epochs/--num-train-epochs: 'none' is not a whole number of 1 or more",
            ),
            (
                [
                    *ON_TWO,
                    "finetune",
                    "--task",
                    "mlm",
                    "--model",
                    "m",
                    "--data",
                    "/none.txt",
                ],
                "error: no such file: /none.txt",
            ),
            (
                ["--nodes", "two", "train"],
                "launch: error: --nodes takes a number, not 'two'",
            ),
            (["--nodes=", "train"], "launch: error: --nodes takes a number, not ''"),
            (
                ["--nodes", "2", "train"],
                "launch: error: 2 nodes need --rendezvous HOST:PORT",
            ),
            (["--node", "2", "train"], "launch: error: unknown option --node"),
            (["--nodes"], "launch: error: --nodes needs a value"),
            ([], "launch: error: no JOB"),
        ],
        fast=2,
    ),
)
def test_launch_refuses_a_wrong_option_with_2_before_torchrun(
    node: Image, words: list[str], message: str
) -> None:
    done = node.run("launch", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_launch_preloads_the_allocator(node: Image) -> None:
    library = node.root / "libjemalloc.so.2"
    library.touch()
    allocator = node.payload / "allocator"
    allocator.write_text(
        allocator.read_text().replace("/usr/lib/*/libjemalloc.so.2", str(library))
    )
    node.stand_in("torchrun", 'echo "$LD_PRELOAD|$MALLOC_CONF"')
    assert launched(node, "mine")[0].startswith(f"{library}|oversize_threshold:1,")


def test_launch_help(node: Image) -> None:
    assert launched(node, "--help")[0] == "usage: launch [OPTION…] JOB [ARG…]"
