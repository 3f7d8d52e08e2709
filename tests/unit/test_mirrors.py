"""Mirrors of everything that is downloaded: one table of the settings, and what each address becomes."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envbuilder import config
from envbuilder.catalog.rows import Catalog
from envbuilder.engine import bootstrap
from envbuilder.engine.buildx import BuildOptions, build_argv
from envbuilder.engine.mirrored import apt_hooks, mirrored_base, mirrored_image
from envbuilder.errors import UsageError
from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import BASE_BOOTSTRAP, Request
from envbuilder.network import Network
from envbuilder.pipeline import build_arguments
from envbuilder.render import project
from envbuilder.render.settings_file import extended_settings
from envbuilder.render.targets import render_targets
from envbuilder.resolve import resolve
from envbuilder.resolve.parsers import (
    parse_apt_mirror,
    parse_hub,
    parse_python_mirror,
    parse_registry_mirror,
)

LOCK = (
    Path(__file__).parents[2]
    / "docker/images/cu117-torch2.0.1-py3.10-debian12/envbuilder.lock"
)
TABLE = """cuda = "11.7"
[mirrors]
packages = "https://pypi.example/simple"
torch = "find-links+https://mirror.example/torch/{tag}"
debian = "https://mirror.example/debian"
registry = "docker.example"
python = "https://mirror.example/python-build-standalone"
hub = "https://hub.example"
"""


def settings_of(folder: Path, text: str) -> Any:
    (folder / config.FILE).write_text(text)
    found = config.find(folder)
    assert found
    return found[1]


def test_table_gives_the_options_their_defaults(tmp_path: Path) -> None:
    assert settings_of(tmp_path, TABLE) == {
        "cuda": "11.7",
        "index_url": "https://pypi.example/simple",
        "torch_index": "find-links+https://mirror.example/torch/{tag}",
        "apt_mirror": "https://mirror.example/debian",
        "registry_mirror": "docker.example",
        "python_mirror": "https://mirror.example/python-build-standalone",
        "hub": "https://hub.example",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mirrors]\npypi = 'https://a.example'", "unknown key 'pypi'"),
        ("[mirrors]\ndebian = 'https://a.example/apt'", "ends in /debian"),
        ("[mirrors]\nregistry = 'https://a.example'", "without https://"),
        ("[mirrors]\nhub = 'https://me:secret@a.example'", "without credentials"),
        ("[mirrors]\nhub = 5", "hub must be a string"),
        ("mirrors = 'a'", "mirrors must be a table"),
        (
            "index-url = 'https://a.example'\n[mirrors]\npackages = 'https://b.example'",
            "packages and index-url are the same setting",
        ),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(tmp_path, text)
    assert problem in str(caught.value.problems)


def test_apt_mirror_is_an_address_of_debian() -> None:
    for text in (
        "https://mirrors.example/debian",
        "http://me:pa%20ss@10.0.0.1:8080/apt/debian/",
    ):
        assert parse_apt_mirror(text) == text.rstrip("/")
    for text in (
        "https://mirror.example/ubuntu",
        "https://mirror.example/debian\ndeb x",
        "https://mirror.example/$(id)/debian",
        "https://mirror.example/a,b/debian",
        "https://mirror.example/a&b/debian",
        "file:///debian",
        "",
    ):
        with pytest.raises(ValueError, match="ends in /debian"):
            parse_apt_mirror(text)


def test_registry_mirror_is_a_host_with_a_path() -> None:
    for text in ("docker.example", "localhost", "127.0.0.1:5000", "reg.example/hub/x/"):
        assert parse_registry_mirror(text) == text.rstrip("/")
    for text in (
        "dockerhub",
        "https://reg.example",
        "reg.example/Hub",
        "reg.example/a b",
    ):
        with pytest.raises(ValueError, match="a registry and a path"):
            parse_registry_mirror(text)
    assert parse_hub("https://hub.example/") == "https://hub.example"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("python:3.10-slim-bookworm", "m.example/library/python:3.10-slim-bookworm"),
        ("nvidia/cuda:12.4.1-base", "m.example/nvidia/cuda:12.4.1-base"),
        ("docker.io/library/python:3.10", "m.example/library/python:3.10"),
        ("ghcr.io/org/image:1", "ghcr.io/org/image:1"),
        ("localhost/image:1", "localhost/image:1"),
    ],
)
def test_only_images_of_docker_hub_are_mirrored(reference: str, expected: str) -> None:
    assert mirrored_image(reference, "m.example") == expected


def test_base_of_debian_packages_is_not_mirrored(facts: Catalog) -> None:
    base = resolve(Request(base=BASE_BOOTSTRAP), facts).base
    assert mirrored_base(base, "m.example") == base
    official = resolve(Request(), facts).base
    assert mirrored_base(official, None) == official
    assert mirrored_base(official, "m.example") == replace(
        official, reference=f"m.example/library/{official.reference}"
    )


def test_mirrors_replace_arguments_of_the_dockerfile() -> None:
    stack = parse_lock(LOCK.read_text(), source=str(LOCK)).stack
    name = stack.base.reference
    network = Network(registry_mirror="m.example")
    assert build_arguments(stack, Network()) == {}
    assert build_arguments(stack, network) == {"BASE": f"m.example/library/{name}"}
    other = replace(stack.base, reference="ghcr.io/org/image:1")
    assert build_arguments(replace(stack, base=other), network) == {}
    with pytest.raises(ValueError, match="without credentials"):
        parse_python_mirror("https://me:pw@mirror.example/pythons")


def test_build_gets_the_mirrors_without_their_passwords() -> None:
    network = Network(apt_mirror="https://me:hunter2@mirror.example/debian")
    words = build_argv(
        Path("ctx"),
        dockerfile="Dockerfile",
        iidfile=Path("iid"),
        metadata=Path("meta"),
        options=BuildOptions(),
        network=network,
        arguments={"BASE": "m.example/library/python:3.10@sha256:1"},
    )
    assert "hunter2" not in " ".join(words)
    assert "id=apt-mirror,env=ENVBUILDER_APT_SECRET" in words
    assert "BASE=m.example/library/python:3.10@sha256:1" in words
    said = network.hide_token("E: Failed https://me:hunter2@mirror.example/debian/x")
    assert said == "E: Failed https://****@mirror.example/debian/x"


def test_bootstrap_asks_the_mirror_and_forgets_it(
    facts: Catalog, tmp_path: Path
) -> None:
    base = resolve(Request(base=BASE_BOOTSTRAP), facts).base
    network = Network(apt_mirror="https://me:hunter2@mirror.example/debian")
    plain = bootstrap.bootstrap_argv(base, Path("x"))
    assert not any("setup-hook" in word for word in plain)
    argv = bootstrap.bootstrap_argv(base, Path("x"), network)
    assert "hunter2" not in " ".join(argv)
    environ = bootstrap.environment({"A": "b"}, tmp_path, network)
    assert environ["ENVBUILDER_APT_MIRROR"] == network.apt_mirror


DEBIAN = "debian" + ".org"


@pytest.mark.slow
def test_hooks_change_sources_and_put_them_back(tmp_path: Path) -> None:
    sources = tmp_path / "etc/apt/sources.list"
    for folder in ("apt.conf.d", "sources.list.d"):
        (tmp_path / "etc/apt" / folder).mkdir(parents=True)
    official = (
        f"deb http://ftp.{DEBIAN}/debian bookworm main\n"
        f"deb http://security.{DEBIAN}/debian-security bookworm-security main\n"
        f"deb http://snapshot.{DEBIAN}/archive/debian/20250520T000000Z bookworm main\n"
    )
    sources.write_text(official)
    env = {
        "PATH": "/usr/bin:/bin",
        "ENVBUILDER_APT_MIRROR": "https://me:pw@mirror.example/apt/debian",
        "ENVBUILDER_APT_CA": "/ca.pem",
    }
    for hook in apt_hooks():
        if hook.startswith("--setup-hook="):
            words = ["sh", "-c", hook.partition("=")[2], "exec", str(tmp_path)]
            subprocess.run(words, env=env, check=True)
    assert sources.read_text().splitlines() == [
        "deb https://me:pw@mirror.example/apt/debian bookworm main",
        "deb https://me:pw@mirror.example/apt/debian-security bookworm-security main",
        f"deb http://snapshot.{DEBIAN}/archive/debian/20250520T000000Z bookworm main",
    ]
    settings = tmp_path / "etc/apt/apt.conf.d/99mirror"
    assert settings.read_text() == 'Acquire::https::CAInfo "/ca.pem";\n'
    last = apt_hooks()[-1].partition("=")[2]
    subprocess.run(["sh", "-c", last, "exec", str(tmp_path)], env=env, check=True)
    assert sources.read_text() == official
    assert [path.name for path in sorted((tmp_path / "etc/apt").iterdir())] == [
        "apt.conf.d",
        "sources.list",
        "sources.list.d",
    ]
    assert not settings.exists()


def test_rendered_files_follow_the_table(facts: Catalog) -> None:
    lock = parse_lock(LOCK.read_text(), source=str(LOCK))
    settings = {
        "index_url": "https://me:hunter2@pypi.example/simple",
        "apt_mirror": "https://mirror.example/debian",
        "hub": "https://hub.example",
    }
    mirrors = config.public_mirrors(settings)
    assert set(mirrors) == {"debian", "hub"}
    described = project.describe(lock, mirrors=mirrors)
    targets = ("compose", "kubernetes", "slurm", "devcontainer")
    files = render_targets(described, *targets).files
    assert "HF_ENDPOINT: ${HF_ENDPOINT:-https://hub.example}\n" in files["compose.yaml"]
    assert (
        "\nENVBUILDER_APT_MIRROR=https://mirror.example/debian\n"
        in files[".env.example"]
    )
    assert "\n# ENVBUILDER_INDEX_URL=\n" in files[".env.example"]
    assert 'value: "https://hub.example"\n' in files["kubernetes/job.yaml"]
    assert (
        "HF_ENDPOINT=${HF_ENDPOINT:-https://hub.example}" in files["slurm/train.sbatch"]
    )
    editor = files[".devcontainer/Dockerfile"]
    assert ",https://mirror.example/\\1," in editor
    assert "hunter2" not in str(files)
    plain = render_targets(project.describe(lock), *targets).files
    assert "/dev/shm" not in plain[".devcontainer/Dockerfile"]
    assert "      HF_ENDPOINT:\n" in plain["compose.yaml"]
    assert "HF_ENDPOINT" not in plain["slurm/train.sbatch"]


def test_init_keeps_the_table() -> None:
    text = extended_settings(
        TABLE, targets=["bake"], settings={}, request={"torch": "2.0.1"}
    )
    assert TABLE.partition("[mirrors]")[2] in text
