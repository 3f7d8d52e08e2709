"""What is taken from the machine to reach an index, and what wins over what."""

from netrc import netrc
from pathlib import Path

import pytest

from envbuilder import network as networks
from envbuilder.engine.buildx import BuildOptions, build_argv
from envbuilder.errors import UsageError
from envbuilder.network import Network, find_network, uv_environment

TIMEOUT = {"UV_HTTP_TIMEOUT": "30"}  # a server that stalls is given up


@pytest.fixture(autouse=True)
def no_bundle_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "SYSTEM_BUNDLES", ())


def test_machine_without_network_settings(tmp_path: Path) -> None:
    assert find_network({}, home=tmp_path) == Network(
        ca=None, netrc=None, index_url=None, proxies={}
    )


def test_proxies_are_found_in_upper_and_lower_case(tmp_path: Path) -> None:
    environ = {
        "HTTP_PROXY": "a",
        "https_proxy": "b",
        "all_proxy": "c",
        "NO_PROXY": "d",
        "ftp_proxy": "e",
        "no_proxy": "",
    }
    found = find_network(environ, home=tmp_path)
    assert found.proxies == {
        "HTTP_PROXY": "a",
        "https_proxy": "b",
        "all_proxy": "c",
        "NO_PROXY": "d",
    }
    assert uv_environment({}, found) == {**(found.proxies or {}), **TIMEOUT}


def test_netrc_is_taken_from_the_environment_or_home(tmp_path: Path) -> None:
    (tmp_path / ".netrc").touch()
    (tmp_path / "other").touch()
    assert find_network({}, home=tmp_path).netrc == tmp_path / ".netrc"
    assert find_network({"NETRC": ""}, home=tmp_path).netrc == tmp_path / ".netrc"
    named = find_network({"NETRC": str(tmp_path / "other")}, home=tmp_path)
    assert named.netrc == tmp_path / "other"
    assert uv_environment({}, named) == {"NETRC": str(tmp_path / "other"), **TIMEOUT}
    assert (
        find_network({"NETRC": str(tmp_path / "missing")}, home=tmp_path).netrc is None
    )


def test_the_first_existing_ca_bundle_is_used(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.pem", "b.pem")]
    for path in files:
        path.touch()
    environ = {
        "CURL_CA_BUNDLE": str(files[1]),
        "PIP_CERT": str(files[0]),
        "SSL_CERT_FILE": str(tmp_path / "missing"),
    }
    assert find_network(environ, home=tmp_path).ca == files[0]
    assert find_network(environ, home=tmp_path, ca=files[1]).ca == files[1]


def test_system_bundle_is_the_last_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system.pem"
    system.touch()
    monkeypatch.setattr(
        networks, "SYSTEM_BUNDLES", (str(tmp_path / "missing"), str(system))
    )
    assert (
        find_network({"PIP_CERT": str(tmp_path / "missing")}, home=tmp_path).ca
        == system
    )
    own = tmp_path / "own.pem"
    own.touch()
    assert find_network({"PIP_CERT": str(own)}, home=tmp_path).ca == own


def test_only_an_explicit_index_replaces_the_default(tmp_path: Path) -> None:
    environ = {"UV_INDEX_URL": "b", "UV_DEFAULT_INDEX": "c", "PIP_INDEX_URL": "d"}
    assert find_network(environ, home=tmp_path).index_url is None
    given = find_network(
        environ, home=tmp_path, index_url="https://mirror.example/simple"
    )
    assert uv_environment(environ, given) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        **TIMEOUT,
    }


def test_uv_gets_a_minimal_environment() -> None:
    kept = dict.fromkeys(
        (
            "PATH",
            "HOME",
            "TMPDIR",
            "NETRC",
            "UV_CACHE_DIR",
            "UV_OFFLINE",
            "XDG_CACHE_HOME",
            "LANG",
            "LC_ALL",
        ),
        "x",
    )
    others = dict.fromkeys(
        (
            "UV_INDEX",
            "UV_DEFAULT_INDEX",
            "UV_CONSTRAINT",
            "PIP_PRE",
            "PYTHONPATH",
            "TZ",
        ),
        "x",
    )
    assert uv_environment({**kept, **others}, Network()) == {**kept, **TIMEOUT}


NETRC = """
machine index.example login me password "hun\\"ter 2"
machine github.com login me password ghp_elsewhere
default login me password everywhere
"""


@pytest.mark.parametrize(
    ("index_url", "login"),
    [
        (None, ""),
        (
            "https://index.example/simple",
            'machine index.example login me password "hun\\"ter 2"\n',
        ),
        (
            "https://INDEX.example:8443/simple",
            'machine index.example login me password "hun\\"ter 2"\n',
        ),
        ("https://other.example/simple", ""),
        ("https://[", ""),
        ("file:///srv/simple", ""),
    ],
)
def test_a_build_gets_only_the_login_of_its_index(
    tmp_path: Path, index_url: str | None, login: str
) -> None:
    """It runs the base image and the packages of a lock that may come from somebody else."""
    (tmp_path / ".netrc").write_text(NETRC)
    found = find_network({}, home=tmp_path, index_url=index_url)
    assert found.login == login
    assert uv_environment({}, found)["NETRC"] == str(tmp_path / ".netrc")
    if login:
        (tmp_path / "again").write_text(login)
        assert netrc(str(tmp_path / "again")).hosts == {
            "index.example": ("me", "", 'hun"ter 2')
        }


@pytest.mark.parametrize("text", ["machine", "\x00", "index.example me", "\ud7ff"])
def test_damaged_netrc_gives_no_login(tmp_path: Path, text: str) -> None:
    (tmp_path / ".netrc").write_text(text)
    assert (
        find_network({}, home=tmp_path, index_url="https://index.example/simple").login
        == ""
    )


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "text",
    [
        CERTIFICATE,
        "# a CA\n" + CERTIFICATE,
        CERTIFICATE.replace("CERT", "TRUSTED CERT"),
    ],
)
def test_a_bundle_is_a_file_of_certificates(tmp_path: Path, text: str) -> None:
    (tmp_path / "ca.pem").write_text(text)
    networks.check_bundle(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "contains no certificate"),
        ("aws_secret_access_key = x", "contains no certificate"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "contains no certificate"),
        (CERTIFICATE + "-----BEGIN PRIVATE KEY-----\nMIIB\n", "contains a private key"),
        ("-----BEGIN RSA PRIVATE KEY-----\n" + CERTIFICATE, "contains a private key"),
    ],
)
def test_other_user_file_is_not_a_ca_bundle(
    tmp_path: Path, text: str, problem: str
) -> None:
    """Settings name the bundle, and the base image reads it."""
    (tmp_path / "id_rsa").write_text(text)
    with pytest.raises(UsageError, match=problem):
        networks.check_bundle(tmp_path / "id_rsa")
    with pytest.raises(UsageError, match="is not a file"):
        networks.check_bundle(tmp_path)


def test_a_mirror_of_pythons_reaches_a_build_as_a_secret(tmp_path: Path) -> None:
    environ = {"UV_PYTHON_INSTALL_MIRROR": "https://user:secret@mirror.example/pythons"}
    network = find_network(environ, home=tmp_path)
    argv = build_argv(
        tmp_path,
        dockerfile="Dockerfile",
        iidfile=tmp_path / "iid",
        metadata=tmp_path / "metadata",
        options=BuildOptions(),
        network=network,
    )
    assert "id=python-mirror,env=UV_PYTHON_INSTALL_MIRROR" in argv
    assert "mirror.example" not in " ".join(argv)
