"""A mirror of packages, from the table of the settings to the real uv."""

from pathlib import Path

import pytest
from index_server import serve

from cli.conftest import Run

pytestmark = pytest.mark.slow
REQUEST = ["lock", "--torch", "2.0.1", "--cuda", "11.7", "--base", "bootstrap"]


def test_table_s_packages_are_locked_and_an_option_wins(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    settings = tmp_path / "envbuilder.toml"
    with serve() as table, serve() as option:
        settings.write_text(f'[mirrors]\npackages = "{table.url}"\n')
        first = run(*REQUEST, "--output", "first.lock")
        assert (first.code, option.paths) == (0, []), first.err
        assert "/simple/torch/" in table.paths
        seen = len(table.paths)
        second = run(*REQUEST, "--output", "second.lock", "--index-url", option.url)
        assert second.code == 0, second.err
        assert "/simple/torch/" in option.paths
        assert len(table.paths) == seen
