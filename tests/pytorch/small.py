"""Torch's family in wheels of a few hundred bytes, with the requirements of the real ones, for locks."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

TAG = "cp39-cp39-linux_x86_64"
TRITON = "triton-2.0.0-1-cp39-cp39-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
TORCH = ("filelock", "typing-extensions", "sympy", "networkx", "jinja2")


def family(folder: Path, local: str) -> list[Path]:
    """The wheels of torch 2.0.1 with a local version, `cu118` or `cpu`; those for CUDA contain CUDA's libraries."""
    here = folder / local
    here.mkdir(parents=True)
    torch = list(TORCH)
    if local != "cpu":
        torch.append(
            'triton (==2.0.0) ; platform_system == "Linux" and platform_machine == "x86_64"'
        )
        (here / TRITON).write_bytes(
            wheel("triton", "2.0.0", ["cmake", "filelock", "lit", "torch"])
        )
    vision = ["numpy", "requests", "torch (==2.0.1)", "pillow (!=8.3.*,>=5.3.0)"]
    for name, version, requirements in (
        ("torch", "2.0.1", torch),
        ("torchvision", "0.15.2", vision),
        ("torchaudio", "2.0.2", ["torch (==2.0.1)"]),
    ):
        path = here / f"{name}-{version}+{local}-{TAG}.whl"
        path.write_bytes(wheel(name, f"{version}+{local}", requirements))
    for path in list(here.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            (name,) = (
                name for name in archive.namelist() if name.endswith("/METADATA")
            )
            path.with_name(f"{path.name}.metadata").write_bytes(archive.read(name))
    return sorted(here.glob("*.whl"))


def wheel(name: str, version: str, requirements: Sequence[str]) -> bytes:
    """A wheel without code; always the same bytes."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": "\n".join([*lines, ""]),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {TAG}\n",
        f"{info}/RECORD": f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return buffer.getvalue()
