"""Where torch comes from, if not from PyPI: the address, its mirror, what is asked there, and its pages."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
import torch_pages
from packaging.version import Version

from envbuilder import catalog
from envbuilder.catalog import online
from envbuilder.catalog.rows import TorchBuild
from envbuilder.cli.catalog_command import check_own_indexes
from envbuilder.console import Console
from envbuilder.engine.buildx import (
    TORCH_INDEX_VARIABLE,
    BuildOptions,
    BuildStep,
    build_argv,
    step_title,
    wheel_sizes,
)
from envbuilder.errors import EngineError, LockError
from envbuilder.format.stack_text import download_text
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.index_page import parse_page
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.requirements import requirements_text
from envbuilder.lock.torch_index import FAMILY, address_for, torch_index
from envbuilder.lock.uv_compile import Uv, compile_argv, project_text
from envbuilder.lock.validation import find_problems
from envbuilder.model import Layer, Lock, Stack, Wheel
from envbuilder.network import Network, find_network, uv_environment
from envbuilder.pipeline import Session
from envbuilder.processes import Completed
from envbuilder.render.context import dockerfile, layers_of, render_context
from envbuilder.render.targets import Project, bake, compose
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request
from envbuilder.resolve.parsers import parse_torch_index

WHEELS = Path(__file__).parents[2] / "docker" / "install" / "wheels.py"
PRESET = WHEELS.parents[1] / "images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
HASH = "0" * 64
CATALOG = catalog.load()


def stack(**options: str) -> Stack:
    options = options or {"cuda": "11.8", "torch": "2.0.1", "python": "3.10"}
    return resolve(parse_request(options), CATALOG)


def on_pypi() -> Stack:
    return stack(cuda="11.7", base="bootstrap")


def locked(name: str, version: str, index: str = "pypi", size: int = 1) -> Wheel:
    return Wheel(
        name=name,
        version=Version(version),
        file=f"{name}-{version}-cp310-cp310-linux_x86_64.whl",
        size=size,
        sha256=HASH,
        layer=Layer.TORCH,
        index=index,
    )


def lock_of(*wheels: Wheel) -> Lock:
    return Lock(
        schema=1, catalog="2026-11-24", stack=stack(), base_digest=None, wheels=wheels
    )


# --- the address ---------------------------------------------------------------------------------------------------

ADDRESSES = {
    "https://m.example/whl": "https://m.example/whl/cu118",
    "https://m.example/whl/": "https://m.example/whl/cu118",
    "https://m.example/whl/cu118/": "https://m.example/whl/cu118",
    "https://m.example/{tag}/wheels": "https://m.example/cu118/wheels",
    "https://m.example/api/pytorch-cu118/simple": "https://m.example/api/pytorch-cu118/simple",
    "https://m.example/torch_stable.html": "https://m.example/torch_stable.html",
    "https://m.example": "https://m.example/cu118",
}


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheels", WHEELS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_mirror_names_one_index_or_all(installer: ModuleType) -> None:
    for given, address in ADDRESSES.items():
        assert address_for(given, "cu118") == address
        assert installer.address_for(given, "cu118") == address


def test_without_a_mirror_the_catalog_names_the_address() -> None:
    found = torch_index(stack(), None)
    assert found
    assert found.page_of("torch") == "https://download.pytorch.org/whl/cu118/torch/"
    assert found.text == "the index pytorch-cu118 (download.pytorch.org)"
    assert torch_index(on_pypi(), "https://m.example/whl") is None


def test_a_page_of_files_is_asked_as_it_is() -> None:
    found = torch_index(stack(), "find-links+https://me:pw@m.example/wheels/{tag}")
    assert found
    assert found.flat
    assert found.page_of("torch") == "https://m.example/wheels/cu118"
    named_with_slash = torch_index(stack(), "find-links+https://m.example/cu118/")
    assert named_with_slash
    assert named_with_slash.page_of("torch") == "https://m.example/cu118/"


def test_the_index_of_another_cuda_is_refused() -> None:
    with pytest.raises(LockError) as caught:
        torch_index(stack(), "https://me:pw@m.example/whl/cu121")
    assert caught.value.message == (
        "https://m.example/whl/cu121 is for cu121; torch 2.0.1 for CUDA 11.8 needs cu118"
    )
    assert caught.value.hint.endswith("`--torch-index https://m.example/whl`")


def test_an_index_without_an_address_needs_one() -> None:
    own = replace(stack(), index="ours-cu118", index_url="")
    with pytest.raises(LockError, match="ours-cu118, whose address is not known"):
        torch_index(own, None)
    assert torch_index(own, None, package_index="https://m.example/simple") is None
    found = torch_index(own, "https://m.example/whl")
    assert found
    assert found.url == "https://m.example/whl/cu118"


@pytest.mark.parametrize(
    "text",
    ["", "m.example/whl", "ftp://m.example", "file:///whl", "https://m.example/whl?t=1", "https://m.example/#x",
     "https://m.example/a b", "https://m.example/{cuda}", "find-links+", "https://m.example/,b", "--help"],
)  # fmt: skip
def test_odd_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a mirror of PyTorch's index is an address"):
        parse_torch_index(text)


def test_addresses_of_mirrors_are_taken() -> None:
    for given in ADDRESSES:
        assert parse_torch_index(given) == given
    flat = "find-links+https://me:p%40w@m.example:8443/pytorch-wheels/{tag}"
    assert parse_torch_index(flat) == flat


# --- what uv is told -----------------------------------------------------------------------------------------------


def new_uv(torch_mirror: str | None = None) -> Uv:
    return Uv(
        program="uv",
        run=lambda argv: Completed(returncode=1, stdout="", stderr=""),
        torch_index=torch_mirror,
    )


def test_only_the_family_is_asked_of_its_index() -> None:
    index = torch_index(stack(), "https://me:pw@m.example/whl")
    assert index
    assert project_text(index, ["torch==2.0.1+cu118", "numpy<2"]) == (
        '[project]\nname = "stack"\nversion = "0"\ndependencies = [\n'
        '  "torch==2.0.1+cu118",\n  "numpy<2",\n]\n'
        "[tool.uv.sources]\n"
        'torch = { index = "torch" }\ntorchaudio = { index = "torch" }\ntorchvision = { index = "torch" }\n'
        "[[tool.uv.index]]\n"
        'name = "torch"\nurl = "https://m.example/whl/cu118"\nexplicit = true\n'
    )
    assert 'format = "flat"\n' in project_text(replace(index, flat=True), [])


def test_the_days_of_that_index_do_not_matter() -> None:
    argv = compile_argv(new_uv(), stack(), Path("/f"))
    assert "/f/pyproject.toml" in argv
    days = [argv[at + 1] for at, word in enumerate(argv) if word == "--exclude-newer-package"]  # fmt: skip
    assert days == ["torch=false", "torchaudio=false", "torchvision=false"]
    argv = compile_argv(new_uv("https://m.example/whl"), on_pypi(), Path("/f"))
    assert "/f/requirements.in" in argv
    assert "--exclude-newer-package" not in argv


def test_the_login_of_a_mirror_is_in_no_file() -> None:
    mirror = "https://me:p%40w@m.example/whl"
    environment = uv_environment({}, Network(torch_index=mirror))
    assert environment["UV_INDEX_TORCH_USERNAME"] == "me"
    assert environment["UV_INDEX_TORCH_PASSWORD"] == "p@w"
    assert "p%40w" not in Network(torch_index=mirror).hide_token(f"at {mirror}")


def test_a_build_gets_the_logins_of_both_indexes(tmp_path: Path) -> None:
    lines = [
        f"machine {host} login me password {host[0]}\n" for host in ("a", "b", "c")
    ]
    (tmp_path / ".netrc").write_text("".join(lines))
    found = find_network(
        {}, home=tmp_path, index_url="https://a/simple", torch_index="https://b/whl"
    )
    assert found.login == "".join(lines[:2])
    same = find_network(
        {}, home=tmp_path, index_url="https://a/simple", torch_index="https://a/whl"
    )
    assert same.login == lines[0]


# --- the lock ------------------------------------------------------------------------------------------------------


def test_the_family_has_to_be_of_the_stacks_index() -> None:
    found = list(
        find_problems(
            lock_of(
                locked("torch", "2.0.1+cu118"),
                locked("numpy", "1.24.1", "pytorch-cu118"),
            )
        )
    )
    said = "{} is locked from the index {}; it has to be from {}"
    assert said.format("torch 2.0.1+cu118", "pypi", "pytorch-cu118") in found
    assert said.format("numpy 1.24.1", "pytorch-cu118", "pypi") in found


def test_requirements_name_the_pages_of_the_family() -> None:
    lock = lock_of(
        locked("numpy", "1.24.1"), locked("torch", "2.0.1+cu118", "pytorch-cu118")
    )
    assert requirements_text(lock) == (
        "--only-binary :all:\n"
        "--find-links https://download.pytorch.org/whl/cu118/torch/\n"
        f"numpy==1.24.1 --hash=sha256:{HASH}\n"
        f"torch==2.0.1+cu118 --hash=sha256:{HASH}\n"
    )


def test_a_mirror_takes_the_place_of_the_pages(installer: ModuleType) -> None:
    lock = lock_of(
        locked("torch", "2.0.1+cu118", "pytorch-cu118"), locked("triton", "2.0.0")
    )
    text = requirements_text(lock)
    kept, variables = installer.mirrored(text, "https://me:pw@m.example/whl")
    assert kept == text.replace(
        "--find-links https://download.pytorch.org/whl/cu118/torch/\n", ""
    )
    assert variables == {"UV_FIND_LINKS": "https://me:pw@m.example/whl/cu118/torch/"}
    _, variables = installer.mirrored(text, "find-links+https://m.example/{tag}")
    assert variables == {"UV_FIND_LINKS": "https://m.example/cu118"}
    _, variables = installer.mirrored(text, "find-links+https://m.example/cu118/")
    assert variables == {"UV_FIND_LINKS": "https://m.example/cu118/"}
    plain = "numpy==1.24.1 --hash=sha256:0\n"
    assert installer.mirrored(plain, "https://m.example/whl") == (plain, {})


def elsewhere(**sizes: int) -> Lock:
    """A preset's lock as if its torch were on an index of its own."""
    preset = parse_lock(PRESET.read_text(), source=str(PRESET))
    wheels = []
    for wheel in preset.wheels:
        if wheel.name in FAMILY:
            size = sizes.get(wheel.name, wheel.size)
            wheels.append(replace(wheel, index="pytorch-cu117", size=size))
        else:
            wheels.append(wheel)
    url = "https://download.pytorch.org/whl/cu117"
    stack = replace(preset.stack, index="pytorch-cu117", index_url=url)
    return replace(preset, stack=stack, wheels=tuple(wheels))


def test_the_layer_of_torch_names_its_index() -> None:
    lock = elsewhere()
    files = render_context(lock).files
    place = f"images/{lock.stack.name}"
    pages = [f"--find-links https://download.pytorch.org/whl/cu117/{name}/" for name in FAMILY]  # fmt: skip
    layer = files[f"{place}/layers/torch.txt"].splitlines()
    assert layer[1:4] == pages
    assert any(line.startswith("triton==") for line in layer)  # from PyPI
    assert "--find-links" not in files[f"{place}/layers/libraries.txt"]
    sections = files[f"{place}/Dockerfile"].split("# --- ")
    mount = "    --mount=type=secret,id=torch-index \\\n"
    with_mount = [section for section in sections if mount in section]
    assert [section.split(":")[0] for section in with_mount] == ["PyTorch"]
    assert "--secret id=torch-index,src=FILE" in sections[0]
    assert (
        "torch-index"
        not in render_context(parse_lock(PRESET.read_text(), source="x")).files[
            f"{place}/Dockerfile"
        ]
    )


def test_nvidias_libraries_inside_torch_need_no_layer() -> None:
    lock = elsewhere()
    assert layers_of(lock)[0] is Layer.NVIDIA
    others = tuple(wheel for wheel in lock.wheels if wheel.layer is not Layer.NVIDIA)
    alone = replace(lock, wheels=others)
    assert layers_of(alone)[0] is Layer.TORCH
    assert "layers/nvidia.txt" not in dockerfile(alone)
    assert layers_of(replace(lock, wheels=()))[0] is Layer.NVIDIA


def test_other_builders_can_pass_the_mirror() -> None:
    lock = elsewhere()
    project = Project(lock=lock, image="envbuilder:x", context="docker")
    files = {**compose.files(project), **bake.files(project)}
    assert (
        "secrets: [ca, index, netrc, apt-mirror, torch-index]" in files["compose.yaml"]
    )
    assert "torch-index: {environment: ENVBUILDER_TORCH_INDEX}" in files["compose.yaml"]
    assert "# ENVBUILDER_TORCH_INDEX=" in files[".env.example"]
    assert '"id=torch-index,env=ENVBUILDER_TORCH_INDEX"' in files["docker-bake.hcl"]
    argv = build_argv(
        Path("c"),
        dockerfile="d",
        iidfile=Path("i"),
        metadata=Path("m"),
        options=BuildOptions(),
        network=Network(torch_index="https://me:kestrel@m.example/whl"),
    )
    assert f"id=torch-index,env={TORCH_INDEX_VARIABLE}" in argv
    assert "kestrel" not in str(argv)


def test_an_unknown_size_is_not_shown_as_zero() -> None:
    lock = elsewhere(torch=0)
    assert lock.download_size == 0
    assert "(the index gives no size of torch)" in download_text(lock)
    heading = "# --- PyTorch: 4 wheels, size not known ---"
    assert heading in dockerfile(lock)
    assert " 0 MB" not in dockerfile(lock)
    sizes = wheel_sizes(lock)
    name = "RUN --mount=type=bind,source=images/x/layers/torch.txt,target=/requirements.txt"
    assert step_title(name, sizes) == "PyTorch: 4 wheels"
    step = BuildStep(title="PyTorch", wheels=sizes[Layer.TORCH])
    assert step.total == 0


# --- pages ---------------------------------------------------------------------------------------------------------

PAGE = "https://m.example/whl/cu118/torch/"
FILE = "torch-2.0.1+cu118-cp310-cp310-linux_x86_64.whl"


def test_links_are_read_as_pytorch_writes_them() -> None:
    text = (
        f'<!DOCTYPE html><h1>Links for torch</h1>\n<a href="https://r2.example/whl/cu118/{FILE.replace("+", "%2B")}'
        f'#sha256={HASH}" data-upload-time="2026-08-01T00:00:00Z">{FILE}</a><br/>\n'
        f'<a href="/whl/cu118/{FILE}">{FILE}</a><br/><a href="torch-2.0.1.tar.gz">source</a><a>no link</a>'
        "<!--TIMESTAMP 1790000000-->"
    )
    first, second = parse_page(text, PAGE)
    assert (first.file, first.sha256) == (FILE, HASH)
    assert first.url.startswith("https://r2.example/whl/cu118/torch-2.0.1%2Bcu118-")
    assert (second.url, second.sha256) == (f"https://m.example/whl/cu118/{FILE}", "")


@pytest.mark.parametrize(
    "href",
    [f"file:///srv/{FILE}", f"javascript:{FILE}", f"https://m.example/a b/{FILE}",
     f"https://m.example/\x1b[31m/{FILE}"],
)  # fmt: skip
def test_hostile_links_are_refused(href: str) -> None:
    with pytest.raises(LockError, match="is not the page of a package index") as caught:
        parse_page(f'<a href="{href}">x</a>', PAGE)
    assert "\x1b" not in " ".join(caught.value.problems)


def test_what_is_no_page_lists_nothing() -> None:
    for text in ("", "\x00\xff", "<a href=", "<a href='[' >", "{}" * 1000, "<a " * 1000):  # fmt: skip
        assert parse_page(text, PAGE) == []


@pytest.fixture
def client() -> Callable[..., IndexClient]:
    def call(**network: object) -> IndexClient:
        return IndexClient(network=Network(**network))  # type: ignore[arg-type]

    return call


def test_sizes_and_pages_are_loaded_with_a_login(
    client: Callable[..., IndexClient],
) -> None:
    wheels = torch_pages.family()
    with torch_pages.serve_pages(
        torch_pages.Pages(wheels=wheels, login="me:p@w")
    ) as pages:
        url = f"{pages.url}/cu118/{FILE.replace('+', '%2B')}"
        given = pages.url.replace("http://", "http://me:p%40w@")
        assert client(torch_index=given).size(url) == len(wheels[FILE])
        assert client().size(url) == 0
        page = f"{pages.url}/cu118/torch/"
        assert FILE in client(torch_index=given).page(page)
        with pytest.raises(EngineError, match="asks for credentials") as caught:
            client().page(page)
        assert page in caught.value.message


def test_a_server_without_head_tells_the_size_too(
    client: Callable[..., IndexClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: torch_pages.PagesHandler) -> None:
        self.send_error(405)

    monkeypatch.setattr(torch_pages.PagesHandler, "do_HEAD", refuse)
    wheels = torch_pages.family()
    with torch_pages.serve_pages(torch_pages.Pages(wheels=wheels)) as pages:
        url = f"{pages.url}/cu118/{FILE.replace('+', '%2B')}"
        assert client().size(url) == len(wheels[FILE])
        assert client().size(f"{pages.url}/cu118/missing.whl") == 0


def test_nothing_but_the_web_is_asked(client: Callable[..., IndexClient]) -> None:
    assert client().size("file:///etc/passwd") == 0
    with pytest.raises(EngineError, match="cannot be loaded"):
        client().page("file:///etc/passwd")


def test_proxies_are_those_of_the_network(client: Callable[..., IndexClient]) -> None:
    proxies = {
        "http_proxy": "http://p:1", "ALL_PROXY": "http://q:2", "NO_PROXY": "m.example, .corp"
    }  # fmt: skip
    found = client(proxies=proxies).session
    assert found.proxies_for("other.example") == {
        "http": "http://p:1",
        "https": "http://q:2",
    }
    assert found.proxies_for("m.example") == found.proxies_for("a.corp") == {}


# --- the catalog against the pages -----------------------------------------------------------------------------------


def build_of(torch: str, index: str) -> TorchBuild:
    return next(
        row for row in CATALOG.torch if (str(row.torch), row.index) == (torch, index)
    )


def listed(build: TorchBuild, machine: str = "x86_64") -> dict[str, list[str]]:
    """Every wheel that a page has of a build."""
    files: dict[str, list[str]] = {"torch": [], "torchvision": [], "torchaudio": []}
    for name, wheels in files.items():
        for python in build.pythons:
            tag = f"cp3{python.minor}"
            wheels.append(
                f"{name}-{getattr(build, name)}+cu126-{tag}-{tag}-manylinux_2_28_{machine}.whl"
            )
    return files


def test_wheels_that_a_page_lacks_are_named() -> None:
    build = build_of("2.9.1", "pytorch-cu126")
    files = listed(build)
    on_arm = listed(build, "aarch64")
    for name, wheels in files.items():
        wheels += [file.replace("+cu126", "") for file in on_arm[name]]
    assert list(online.compare_listed(build, files)) == []
    files["torch"].remove(
        f"torch-{build.torch}+cu126-cp313-cp313-manylinux_2_28_x86_64.whl"
    )
    files["torch"] += [
        "torch-x.whl",
        "torch-2.9.1-cp313-cp313t-manylinux_2_28_x86_64.whl",
    ]
    files["torchaudio"] = []
    found = [str(problem) for problem in online.compare_listed(build, files)]
    assert found[0].endswith(
        "torch: its index has no 2.9.1 for Python 3.13 on linux/amd64"
    )
    assert [problem.split(": ")[1] for problem in found] == ["torch", "torchaudio", "torchaudio"]  # fmt: skip


def test_indexes_that_do_not_answer_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = replace(CATALOG, torch=(build_of("2.0.1", "pytorch-cu118"),))
    with torch_pages.serve_pages(
        torch_pages.Pages(wheels=torch_pages.family())
    ) as pages:
        network = Network(torch_index=pages.url)
        uv = replace(new_uv(pages.url), client=IndexClient(network=network))
        session = Session(
            catalog=one,
            network=network,
            environ={},
            uv=uv,
            console=Console(),
            today=date(2026, 11, 27),
        )
        unreached: list[str] = []
        problems = list(check_own_indexes(session, unreached))
        assert unreached == []
        assert {problem.field for problem in problems} == set(FAMILY)
        pages.wheels = {}
        assert list(check_own_indexes(session, unreached)) == []
    assert unreached == ["pytorch-cu118"]
    assert "not reached: http://127.0.0.1:" in capsys.readouterr().err
