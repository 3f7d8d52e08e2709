"""The password of a package index stays out of everything that others can read."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CANARY = "kestrel-7f3a"
ROOT = Path(__file__).parents[2]


class _Index(BaseHTTPRequestHandler):
    """An index that requires a password, records who sent it, and has no packages."""

    authorized: list[str]

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"me:{CANARY}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.end_headers()
            return
        self.authorized.append(self.path)
        self.send_response(404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[tuple[str, list[str]]]:
    """The address of the index with its password, and the paths that were asked with it."""
    authorized: list[str] = []
    handler = type("Handler", (_Index,), {"authorized": authorized})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:{CANARY}@127.0.0.1:{server.server_port}/simple", authorized
        server.shutdown()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A wrapper of envbuilder that notes the words of every process that it starts."""
    script = tmp_path / "noting.py"
    script.write_text(
        "import subprocess, sys\n"
        "def note(event, values):\n"
        "    if event == 'subprocess.Popen':\n"
        f"        with open({str(tmp_path / 'words')!r}, 'a', encoding='utf-8') as stream:\n"
        "            stream.write(repr(values[1]) + '\\n')\n"
        "sys.addaudithook(note)\n"
        "from envbuilder.cli import run\n"
        "sys.exit(run(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    return script


def texts_in(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "by"),
    [
        (("lock", "--cuda", "11.7"), "option"),
        (("lock", "--cuda", "11.8"), "torch-index"),
        (("lock", "--cuda", "11.7"), "environment"),
        (("lock", "--cuda", "11.7"), "settings"),
        (("catalog", "verify", "--online"), "option"),
        (("doctor", "--json"), "environment"),
        (("init", "--cuda", "11.7"), "settings"),
    ],
)
def test_index_password_is_in_no_argument_or_file(
    tmp_path: Path,
    index: tuple[str, list[str]],
    program: Path,
    by: str,
    words: tuple[str, ...],
) -> None:
    address, authorized = index
    site = tmp_path / "site"
    site.mkdir()
    environ = {
        **os.environ,
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
        "NO_PROXY": "*",
    }
    environ["PYTHONPATH"] = str(ROOT)
    (tmp_path / "tmp").mkdir()
    if by == "option":
        words = (*words, "--index-url", address)
    elif by == "torch-index":
        words = (*words, "--index-url", address, "--torch-index", address)
    elif by == "environment":
        environ["ENVBUILDER_INDEX_URL"] = address
    else:
        (site / "envbuilder.toml").write_text(
            f'index-url = "{address}"\n', encoding="utf-8"
        )
    done = subprocess.run(
        [sys.executable, str(program), *words],
        cwd=site,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    started = (tmp_path / "words").read_text(encoding="utf-8")
    assert "uv" in started
    assert authorized, f"uv did not get the password: {done.stderr}"
    assert done.returncode in (3, 5, 6, 8), done.stderr
    assert CANARY not in started
    assert CANARY not in done.stdout + done.stderr
    found = [path for path, text in texts_in(tmp_path) if CANARY.encode() in text]
    assert found == ([site / "envbuilder.toml"] if by == "settings" else [])


@pytest.mark.slow
def test_token_in_an_index_query_is_not_printed(tmp_path: Path) -> None:
    """uv, which hides passwords by itself, repeats the address with its query."""
    address = f"http://127.0.0.1:1/simple?token={CANARY}"
    environ = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache"), "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-m", "envbuilder", "lock", "--cuda", "11.7", "--index-url", address],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert "?****" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert [path for path, text in texts_in(tmp_path) if CANARY.encode() in text] == []


@pytest.mark.slow
def test_rendered_files_do_not_contain_the_password(tmp_path: Path) -> None:
    lock = (
        ROOT
        / "docker"
        / "images"
        / "cu117-torch2.0.1-py3.9-debian11"
        / "envbuilder.lock"
    )
    environ = {
        **os.environ,
        "ENVBUILDER_INDEX_URL": f"https://me:{CANARY}@index.invalid/simple",
    }
    words = ["render", "--lock", str(lock), "--output", "out", "--json"]
    names = ["compose", "kubernetes", "slurm", "devcontainer", "workflow", "bake"]
    for more in ([], [word for name in names for word in ("--target", name)]):
        done = subprocess.run(
            [sys.executable, "-m", "envbuilder", *words, *more],
            cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert CANARY not in done.stdout + done.stderr
    rendered = list(texts_in(tmp_path))
    assert len(rendered) > 50
    assert [path for path, text in rendered if CANARY.encode() in text] == []
    assert json.loads(lock.read_text(encoding="utf-8"))["schema"] == 1
