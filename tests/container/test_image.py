"""What the image is, looked at from inside with testinfra and from outside with docker."""

import os
import subprocess
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from .engine import Image, docker

HERE = Path(__file__).parent
WORKERS = """
import torch
from torch.utils.data import DataLoader

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, number):
        return torch.zeros(1024, 1024)

for batch in DataLoader(Rows(), 32, num_workers=2):
    print(tuple(batch.shape))
"""


@pytest.fixture(scope="session")
def host(container: str) -> Host:
    return testinfra.get_host(f"docker://{container}")


def test_the_user_is_not_root(host: Host) -> None:
    user = host.user()
    assert (user.name, user.uid, user.home) == ("trainer", 1000, "/home/trainer")


def test_the_environment_is_first_on_the_path(host: Host) -> None:
    assert host.check_output("command -v python") == "/opt/venv/bin/python"
    assert host.check_output("python -c 'import sys; print(sys.prefix)'") == "/opt/venv"


def test_image_contains_lock_requirements_and_payload(host: Host) -> None:
    for name in (
        "envbuilder.lock",
        "requirements.txt",
        "payload/train/job.py",
        "payload/acceptance/__main__.py",
        "payload/entrypoint",
    ):
        file = host.file(f"/opt/envbuilder/{name}")
        assert file.is_file
        assert file.user == "root"
    assert host.file("/opt/envbuilder/payload/entrypoint").mode & 0o111


def test_there_is_a_c_compiler_and_no_nvcc(host: Host) -> None:
    assert host.exists("g++")
    assert not host.exists("nvcc")


def test_image_contains_no_installer_and_no_cache(host: Host) -> None:
    assert not host.exists("uv")
    assert host.run("ls /opt/venv/bin/pip").rc != 0
    for folder in (
        "/root/.cache",
        "/var/lib/apt/lists/partial",
        "/install",
        "/run/secrets",
    ):
        assert host.run(f"test -e {folder} && ls -A {folder} | grep .").rc != 0, folder
    # The entrypoint of the running container has put the metrics of evaluate there, and nothing else is.
    others = "! -path '*/evaluate_modules/metrics/*'"
    assert host.run(f"find /home/trainer/.cache -type f {others} | grep .").rc != 0


def test_every_library_finds_its_libraries(host: Host) -> None:
    script = "import torch, torchvision, torchaudio, transformers, datasets; print(torch.zeros(2).sum().item())"
    assert host.run(f"python -c '{script}'").stdout.strip() == "0.0"


def test_nvidia_variables_are_set(image: Image) -> None:
    env = docker(
        "image", "inspect", "--format", "{{json .Config.Env}}", image.id
    ).stdout
    assert "NVIDIA_VISIBLE_DEVICES=all" in env
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in env
    assert (
        "NVIDIA_REQUIRE_CUDA=driver\\u003e=450.80.02" in env
        or "NVIDIA_REQUIRE_CUDA=driver>=450.80.02" in env
    )


def test_no_secret_and_no_ca_is_in_a_layer(host: Host, image: Image) -> None:
    history = docker(
        "history", "--no-trunc", "--format", "{{.CreatedBy}}", image.id
    ).stdout
    assert "PRIVATE" not in history
    bundle = Path(
        os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or os.devnull
    )
    if bundle.is_file():
        own = {
            block.strip()
            for block in bundle.read_text().split("-----END CERTIFICATE-----")
            if block.strip()
        }
        inside = host.check_output("cat /etc/ssl/certs/ca-certificates.crt")
        public = {
            block.strip()
            for block in inside.split("-----END CERTIFICATE-----")
            if block.strip()
        }
        private = own - public
        body = max(private, key=len, default="").splitlines()[-2:-1]
        if body:
            assert (
                host.run(
                    f"grep -rqsF '{body[0]}' /etc /opt/envbuilder /usr/local /home /root"
                ).rc
                != 0
            )


def test_any_user_can_train_and_owns_the_results(image: Image, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    runs = tmp_path / "runs"
    runs.mkdir()
    os.chown(runs, 1234, 1234)
    words = [
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "1234:1234",
        "--volume",
        f"{runs}:/runs",
        image.id,
    ]
    done = docker(
        *words,
        "train",
        "--epochs",
        "1",
        "--max-train-samples",
        "200",
        "--output",
        "/runs/first",
    )
    assert "texts per second" in done.stdout
    written = {path.name: path.stat() for path in (runs / "first").iterdir()}
    left = {
        "config.json",
        "metrics.json",
        "metrics.jsonl",
        "learning-curve.png",
        "report.html",
    }
    assert left <= written.keys()
    assert any(name.endswith(".safetensors") for name in written)
    assert {(stat.st_uid, stat.st_gid) for stat in written.values()} == {(1234, 1234)}


@pytest.mark.exhaustive
def test_suite_passes_for_any_user_with_read_only_root(image: Image) -> None:
    words = [
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "4321:0",
        "--read-only",
        "--shm-size",
        "1g",
    ]
    words += ["--tmpfs", "/tmp:exec", image.id]
    done = docker(*words, "accept", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("passed")


def test_a_signal_reaches_the_job(image: Image) -> None:
    name = f"envbuilder-test-{os.getpid()}"
    process = subprocess.Popen(
        ["docker", "run", "--rm", "--name", name, image.id, "train", "--epochs", "500"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert any(line.startswith("epoch 1") for line in process.stdout)
        docker("stop", "--time", "20", name)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "interrupted" in said
    finally:
        docker("rm", "--force", name, check=False)


def test_a_cpu_quota_limits_the_threads(image: Image) -> None:
    words = ["run", "--rm", "--network", "none", "--cpus", "1", image.id]
    cpus = docker(*words, "nproc", "--all").stdout.strip()
    if cpus == "1":
        pytest.skip("the machine has one CPU, which no quota makes fewer")
    done = docker(
        *words, "python", "-c", "import torch; print(torch.get_num_threads())"
    )
    assert done.stdout == "1\n"
    assert (
        done.stderr
        == f"the CPU quota of this container allows 1 of {cpus} CPUs: OMP_NUM_THREADS=1\n"
    )
    show = ("--no-python", "sh", "-c", "echo $OMP_NUM_THREADS")
    one = docker(*words, "torchrun", "--nproc-per-node", "1", *show)
    two = docker(*words, "torchrun", "--nproc-per-node=2", *show)
    assert "the CPU quota" in one.stderr
    assert "the CPU quota" not in two.stderr  # torchrun itself gives each one thread
    assert (one.stdout, two.stdout) == ("1\n", "1\n1\n")


THREADS = "import torch; print(torch.get_num_threads())"


def test_entry_limits_the_threads_after_docker_exec(image: Image) -> None:
    words = ["--detach", "--rm", "--network", "none", "--cpus", "1"]
    name = docker("run", *words, image.id, "sleep", "600").stdout.strip()
    try:
        if docker("exec", name, "nproc", "--all").stdout.strip() == "1":
            pytest.skip("the machine has one CPU, which no quota makes fewer")
        done = docker("exec", name, "entry", "python", "-c", THREADS)
        pip = docker("exec", name, "entry", "pip", "install", "spam", check=False)
    finally:
        docker("rm", "--force", name, check=False)
    assert done.stdout == "1\n"
    assert "the CPU quota of this container allows 1 of" in done.stderr
    assert "the packages of this image are locked" in pip.stderr


def test_little_shared_memory_is_named_and_more_of_it_works(
    image: Image, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "job.py").write_text(WORKERS)
    words = ["run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/jobs:ro"]
    program = (image.id, "python", "/jobs/job.py")
    failed = docker(*words, *program, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("/dev/shm has 64 MB: DataLoader(num_workers=1")
    done = docker(*words, "--shm-size", "1g", *program)
    assert done.stdout == "(32, 1024, 1024)\n"
    assert "/dev/shm" not in done.stderr


def test_pip_says_which_python_it_would_serve(image: Image) -> None:
    words = ["run", "--rm", "--network", "none", image.id]
    done = docker(*words, "pip", "install", "spam", check=False)
    assert done.returncode == 1
    command = done.stderr.splitlines()[-1].strip()
    local = "mkdir -p /tmp/spam && echo 'import torch' >/tmp/spam/spam.py && "
    local += """echo 'from setuptools import setup; setup(name="spam", py_modules=["spam"])' >/tmp/spam/setup.py && """
    command = command.replace(
        "extra spam", "extra --no-build-isolation --no-index /tmp/spam"
    )
    shown = docker(*words, "bash", "-c", f"{local}{command} && python -c 'import spam'")
    assert shown.returncode == 0
