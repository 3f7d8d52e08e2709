"""Wheels as PyTorch's own indexes have them, made from PyPI's: 2.0.1+cu118 and 2.0.1+cpu with their family.

They compute, so that an image of them can be accepted. Made once and kept in this user's cache; the same bytes each
time. What differs from the real ones:

- `+cu118` is PyPI's build for CUDA 11.7 with NVIDIA's libraries of 11.8, which have the same names within CUDA 11;
  CUPTI has not, and stays. It has no kernels for sm_90, was compiled with cuDNN 8.5, and requires `nvidia-*-cu11`,
  where the real one contains these libraries.
- `+cpu` is the same build with CUDA taken out: see `without_cuda.py`.
"""

import base64
import csv
import fcntl
import io
import os
import shutil
import subprocess
import tempfile
import zipfile
from hashlib import file_digest, sha256
from pathlib import Path

import platformdirs
import uv

from envbuilder.network import find_network, uv_environment

HERE = Path(__file__).parent
EDITION = (
    1  # of what is made here; after a change count up, and the cache is filled anew
)
PYTHON = "3.9"
TRITON = "triton-2.0.0-1-cp39-cp39-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
VERSIONS = {"torch": "2.0.1", "torchvision": "0.15.2", "torchaudio": "2.0.2"}
PRESET = "cu117-torch2.0.1-py3.9-debian11"
METADATA = "torch-2.0.1.dist-info/METADATA"
TAG = "cp39-cp39-linux_x86_64"
LEFT_OUT = {"INSTALLER", "REQUESTED", "RECORD", "uv_cache.json"}
OLDEST = (1980, 1, 1, 0, 0, 0)

# PyPI's torch 2.0.1 asks for these of CUDA 11.7.
CUDA_WHEELS = {
    "nvidia-cuda-nvrtc-cu11 (==11.7.99)": "nvidia-cuda-nvrtc-cu11 (==11.8.89)",
    "nvidia-cuda-runtime-cu11 (==11.7.99)": "nvidia-cuda-runtime-cu11 (==11.8.89)",
    "nvidia-cuda-cupti-cu11 (==11.7.101)": "nvidia-cuda-cupti-cu11 (==11.7.101)",
    "nvidia-cudnn-cu11 (==8.5.0.96)": "nvidia-cudnn-cu11 (==8.7.0.84)",
    "nvidia-cublas-cu11 (==11.10.3.66)": "nvidia-cublas-cu11 (==11.11.3.6)",
    "nvidia-cufft-cu11 (==10.9.0.58)": "nvidia-cufft-cu11 (==10.9.0.58)",
    "nvidia-curand-cu11 (==10.2.10.91)": "nvidia-curand-cu11 (==10.3.0.86)",
    "nvidia-cusolver-cu11 (==11.4.0.1)": "nvidia-cusolver-cu11 (==11.4.1.48)",
    "nvidia-cusparse-cu11 (==11.7.4.91)": "nvidia-cusparse-cu11 (==11.7.5.86)",
    "nvidia-nccl-cu11 (==2.14.3)": "nvidia-nccl-cu11 (==2.14.3)",
    "nvidia-nvtx-cu11 (==11.7.91)": "nvidia-nvtx-cu11 (==11.8.86)",
}
# Machine code that returns the number of the CUDA version, 11070, and the same for 11080 and for "none".
TORCH_CODE = bytes.fromhex("bf3e2b0000e9")
VISION_CODE = bytes.fromhex("b83e2b0000c3")
AUDIO_CODE = bytes.fromhex("ba3e2b0000b801000000c3")
# What a torch that is built without CUDA does not have.
FORGET = """import torch._C as _built
for _name in dir(_built):
    if _name.startswith(("_cuda_", "_nccl_", "_Cuda", "_CUDA")) or _name in ("_cudnn", "_cudart", "_nvtx"):
        delattr(_built, _name)
        sys.modules.pop("torch._C." + _name, None)
_built.has_cuda = _built.has_cudnn = has_cuda = has_cudnn = False

"""
MARKED = "# Appease the type checker; ordinarily this binding is inserted by the\n"
NCCL = "    from torch._C._distributed_c10d import ProcessGroupNCCL\n"
Edit = tuple[
    str, bytes, bytes
]  # file, what is there exactly once, what takes its place


def _text(file: str, old: str, new: str) -> Edit:
    return file, old.encode(), new.encode()


def _edits(local: str) -> list[Edit]:
    """What is changed in the files of PyPI's wheels."""
    edits = []
    for name, version in VERSIONS.items():
        edits.append(
            _text(f"{name}/version.py", f"'{version}+cu117'", f"'{version}+{local}'")
        )
        metadata = f"{name}-{version}.dist-info/METADATA"
        edits.append(
            _text(
                metadata, f"\nVersion: {version}\n", f"\nVersion: {version}+{local}\n"
            )
        )
    return edits + (_edits_for_cuda() if local == "cu118" else _edits_for_cpu())


def _edits_for_cuda() -> list[Edit]:
    edits = [
        _text("torch/version.py", "'11.7'", "'11.8'"),
        ("torch/lib/libtorch_python.so", TORCH_CODE, bytes.fromhex("bf482b0000e9")),
        ("torchvision/_C.so", VISION_CODE, bytes.fromhex("b8482b0000c3")),
        (
            "torchaudio/lib/libtorchaudio.so",
            AUDIO_CODE,
            bytes.fromhex("ba482b0000b801000000c3"),
        ),
    ]
    for old, new in CUDA_WHEELS.items():
        edits.append(_text(METADATA, f"Requires-Dist: {old}", f"Requires-Dist: {new}"))
    return edits


def _edits_for_cpu() -> list[Edit]:
    edits = [
        _text("torch/version.py", "'11.7'", "None"),
        _text("torch/__init__.py", MARKED, FORGET + MARKED),
        _text("torch/distributed/distributed_c10d.py", NCCL, "    raise ImportError\n"),
        ("torchvision/_C.so", VISION_CODE, bytes.fromhex("4883c8ffc390")),
        (
            "torchaudio/lib/libtorchaudio.so",
            AUDIO_CODE,
            bytes.fromhex("ba00000000b800000000c3"),
        ),
    ]
    marker = ' ; platform_system == "Linux" and platform_machine == "x86_64"\n'
    for requirement in (*CUDA_WHEELS, "triton (==2.0.0)"):
        edits.append(_text(METADATA, f"Requires-Dist: {requirement}{marker}", ""))
    return edits


def _apply(edit: Edit, tree: Path) -> None:
    file, old, new = edit
    path = tree / file
    content = path.read_bytes()
    assert content.count(old) == 1, f"{file} has {old!r} {content.count(old)} times"
    mode = path.stat().st_mode
    path.unlink()  # uv's cache may have the same file
    path.write_bytes(content.replace(old, new))
    path.chmod(mode)


def family(local: str, base: str) -> list[Path]:
    """The wheels with a local version, `cu118` or `cpu`; `base` is an image with a compiler."""
    cache = Path(platformdirs.user_cache_dir("envbuilder-tests", appauthor=False))
    folder = cache / f"pytorch-{_edition()}" / local
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Two runs of the tests make them once.
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as name:
                _make(local, Path(name), base)
                (Path(name) / "wheels").rename(folder)
    return sorted(folder.glob("*.whl"))


def _edition() -> str:
    """Another program makes other wheels, so the cache has a folder for each."""
    programs = (HERE / "wheels.py", HERE / "without_cuda.py")
    content = b"".join(path.read_bytes() for path in programs)
    return sha256(content).hexdigest()[:12]


def _make(local: str, work: Path, base: str) -> None:
    tree = work / "tree"
    _unpack(tree)
    if local == "cpu":
        shutil.rmtree(tree / "nvfuser")
        (tree / "torch/bin/nvfuser_tests").unlink()
        mounts = ["--volume", f"{tree}:/tree", "--volume", f"{HERE}:/program:ro"]
        command = ["docker", "run", "--rm", "--network", "none", *mounts, base]
        command += "python3 /program/without_cuda.py /tree".split()
        subprocess.run(command, check=True, capture_output=True)
    for edit in _edits(local):
        _apply(edit, tree)
    (work / "wheels").mkdir()
    for name, version in VERSIONS.items():
        label = f"{name}-{version}+{local}"
        wheel = work / "wheels" / f"{label}-{TAG}.whl"
        _pack(tree, f"{name}-{version}.dist-info", f"{label}.dist-info", wheel)
    if local == "cu118":
        name = "triton-2.0.0.dist-info"
        _pack(tree, name, name, work / "wheels" / TRITON)


def _unpack(tree: Path) -> None:
    """PyPI's wheels, unpacked; uv's cache spares a second download."""
    layer = HERE.parents[1] / "docker/images" / PRESET / "layers/torch.txt"
    network = find_network(os.environ, home=Path.home())
    options = "--no-config --quiet --no-deps --require-hashes".split()
    command = [uv.find_uv_bin(), "pip", "install", *options, "--python-version", PYTHON]
    command += ["--python-platform", "x86_64-unknown-linux-gnu"]
    command += ["--requirements", str(layer), "--target", str(tree)]
    subprocess.run(command, env=uv_environment(os.environ, network), check=True)


def _pack(tree: Path, old: str, new: str, wheel: Path) -> None:
    """A wheel of one project, whose dist-info folder gets a new name.

    It is not compressed: that takes a minute and saves nothing on this machine.
    """
    rows = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for path in _files_of(tree, old):
            relative = path.relative_to(tree).as_posix().replace(old, new)
            content = path.read_bytes()
            _write(archive, relative, content, path.stat().st_mode)
            rows.append([relative, f"sha256={_digest(content)}", str(len(content))])
        record = f"{new}/RECORD"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, [record, "", ""]])
        _write(archive, record, text.getvalue().encode(), 0o644)
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{new}/METADATA")
    wheel.with_name(f"{wheel.name}.metadata").write_bytes(metadata)
    with wheel.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    wheel.with_name(f"{wheel.name}.sha256").write_text(digest)


def _files_of(tree: Path, dist_info: str) -> list[Path]:
    """The files of a project, without those that an installer wrote."""
    with (tree / dist_info / "RECORD").open(newline="") as stream:
        names = {row[0] for row in csv.reader(stream)}
    places = {name.split("/")[0] for name in names if not name.startswith("bin/")}
    paths = []
    for place in sorted(places):
        whole = tree / place
        found = sorted(whole.rglob("*")) if whole.is_dir() else [whole]
        paths += [path for path in found if path.is_file()]
    return [path for path in paths if path.name not in LEFT_OUT]


def _write(archive: zipfile.ZipFile, name: str, content: bytes, mode: int) -> None:
    info = zipfile.ZipInfo(name, OLDEST)
    info.external_attr = (mode & 0o777) << 16
    archive.writestr(info, content)


def _digest(content: bytes) -> str:
    """As RECORD writes it."""
    return base64.urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
