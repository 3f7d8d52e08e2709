"""A project of one small wheel, for an index that has files to download: `index_server.serve(folder=…, wheels=…)`."""

import base64
import io
import json
import random
import zipfile
from hashlib import sha256
from pathlib import Path

NAME = "demo-1.0-py3-none-any.whl"
PATH = f"/files/demo/{NAME}"
PAGE = "/simple/demo/"


def make_wheel(size: int = 100_000) -> bytes:
    """A wheel that installs; always the same bytes."""
    files = {
        "demo.py": b"#" + base64.b64encode(random.Random(1).randbytes(size)) + b"\n",
        "demo-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
        "demo-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "demo-1.0.dist-info/RECORD"
    rows = [
        f"{name},sha256={_digest(content)},{len(content)}"
        for name, content in files.items()
    ]
    files[record] = "\n".join([*rows, f"{record},,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()


def record(folder: Path, wheel: bytes) -> None:
    """Write the project as `tests/recorded_index/` has them."""
    row = {
        "filename": NAME,
        "hashes": {"sha256": sha256(wheel).hexdigest()},
        "metadata": "x",
        "requires-python": None,
        "size": len(wheel),
        "upload-time": "2024-01-01T00:00:00Z",
        "yanked": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    document = {"files": [row], "metadata": {"x": []}, "name": "demo"}
    (folder / "demo.json").write_text(json.dumps(document))


def requirement(wheel: bytes) -> str:
    """As a layer of a lock is written."""
    return f"demo==1.0 --hash=sha256:{sha256(wheel).hexdigest()}\n"
