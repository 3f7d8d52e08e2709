"""Settings in a file, and the network as the machine describes it."""

import os
from pathlib import Path

import pytest

from envbuilder import config
from envbuilder.cli import settings
from envbuilder.errors import UsageError
from envbuilder.network import find_network, uv_environment


def test_settings_are_found_in_parent_directories(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_text('cuda = "11.7"\npackage = ["peft"]\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = config.find(below)
    assert found == (tmp_path / config.FILE, {"cuda": "11.7", "package": ("peft",)})


def test_flavor_is_another_spelling_of_flavour(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_text('flavor = "devel"\n')
    assert config.find(tmp_path) == (tmp_path / config.FILE, {"flavour": "devel"})
    (tmp_path / config.FILE).write_text('flavor = "devel"\nflavour = "devel"\n')
    with pytest.raises(UsageError) as caught:
        config.find(tmp_path)
    assert caught.value.problems == ("flavor and flavour are the same key: give one",)


def test_pyproject_can_contain_settings(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.envbuilder]\ngpu-access = "none"\n')
    found = config.find(tmp_path)
    assert found is not None
    assert found[1] == {"gpu_access": "none"}


def test_the_search_ends_at_the_top_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_text('cuda = "11.7"\n')
    top = tmp_path / "repository"
    below = top / "a"
    below.mkdir(parents=True)
    assert config.find(below) is not None
    (top / ".git").write_text("gitdir: elsewhere")  # as in a worktree
    assert config.find(below) is None
    (top / config.FILE).write_text('cuda = "13"\n')
    assert config.find(below) == (top / config.FILE, {"cuda": "13"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (config.FILE, 'cuda = "11.7"'),
        ("pyproject.toml", '[tool.envbuilder]\ncuda = "11.7"'),
    ],
)
def test_settings_of_another_user_are_refused_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(config, "ROOT", 0 if os.getuid() else -1)
    with pytest.raises(UsageError, match=r"belongs to another user \(uid") as caught:
        config.find(tmp_path)
    assert f"ENVBUILDER_CONFIG={path}" in caught.value.hint
    assert config.find(tmp_path, {os.getuid()}) == (path, {"cuda": "11.7"}), (
        "root by sudo, of who called it"
    )
    assert config.read(path) == (path, {"cuda": "11.7"})


def test_foreign_pyproject_without_settings_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert config.find(tmp_path) is None


def test_a_named_file_without_settings_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('tool = 1\n[project]\nname = "x"\n')
    with pytest.raises(UsageError, match="has no table"):
        config.read(tmp_path / "pyproject.toml")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        config.read(tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('cdua = "11.7"', "did you mean 'cuda'?"),
        ("cuda = 11.7", 'write cuda = "11.7"'),
        ('package = "peft"', "must be a list of strings"),
        ("cuda = ", "cannot be read"),
        ('zzzzzz = "1"', "keys: apt, apt-mirror, as-of, base"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_right_one(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / config.FILE).write_text(text)
    with pytest.raises(UsageError) as caught:
        config.find(tmp_path)
    assert said in " ".join([caught.value.message, *caught.value.problems])


def test_ambient_settings_cannot_change_what_is_locked(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    ambient = {
        "PATH": "/bin", "PIP_INDEX_URL": "x", "PIP_CONSTRAINT": "x", "UV_INDEX": "x", "UV_PRERELEASE": "allow",
        "UV_EXCLUDE_NEWER": "2020-01-01", "PIP_CERT": str(bundle), "HTTPS_PROXY": "http://p", "UV_CACHE_DIR": "/c",
    }  # fmt: skip
    network = find_network(ambient, home=tmp_path)
    assert uv_environment(ambient, network) == {
        "PATH": "/bin", "UV_CACHE_DIR": "/c", "HTTPS_PROXY": "http://p", "SSL_CERT_FILE": str(bundle),
        "UV_HTTP_TIMEOUT": "30",
    }  # fmt: skip


def test_explicit_values_win(tmp_path: Path) -> None:
    (tmp_path / ".netrc").touch()
    network = find_network(
        {"ENVBUILDER_INDEX_URL": "a"},
        home=tmp_path,
        ca=tmp_path / "own.pem",
        index_url="b",
    )
    assert (network.index_url, network.ca, network.netrc) == (
        "b",
        tmp_path / "own.pem",
        tmp_path / ".netrc",
    )


@pytest.mark.parametrize("key", ["cache-to", "cache-from"])
def test_cache_in_settings_must_not_link_outside_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "cache").symlink_to(elsewhere)
    (project / "inside").symlink_to(project)
    monkeypatch.chdir(project)
    option = key.replace("-", "_")
    for folder, is_refused in (
        ("cache", True),
        ("cache/below", True),
        ("inside", False),
        ("absent", False),
    ):
        cache = f"type=local,{'dest' if key == 'cache-to' else 'src'}={folder}"
        monkeypatch.setattr(
            settings, "settings", lambda cache=cache: {option: (cache,)}
        )
        assert settings.caches({option: (cache,)}, option) == (
            cache,
        )  # the user's own word
        if is_refused:
            with pytest.raises(UsageError, match="leads out of"):
                settings.caches({}, option)
        else:
            assert settings.caches({}, option) == (cache,)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to have a folder of another user"
)
def test_a_cache_in_settings_may_not_be_another_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 4321, 4321)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        settings, "settings", lambda: {"cache_to": ("type=local,dest=cache",)}
    )
    with pytest.raises(UsageError, match=r"belongs to another user \(uid 4321\)"):
        settings.caches({}, "cache_to")
    monkeypatch.setenv("SUDO_UID", "4321")
    assert settings.caches({}, "cache_to") == ("type=local,dest=cache",)
