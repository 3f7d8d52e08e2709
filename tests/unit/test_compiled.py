"""Packages that are compiled while an image is built: what is known before, and what the build says afterwards."""

import importlib
import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cuda_package
import pytest
from packaging.version import Version

from envbuilder import catalog, pipeline, resources
from envbuilder.acceptance.compiled_wheels import (
    REPORT,
    compiled_problems,
    label_of,
    read_report,
)
from envbuilder.engine.build_process import Built
from envbuilder.engine.buildx import BuildOptions, build_argv
from envbuilder.errors import LockError, UsageError
from envbuilder.lock.creation import _not_compiled
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.requirements import requirements_text
from envbuilder.lock.sources.compiled import CompileSettings, must_compile
from envbuilder.lock.sources.for_image import plan_for_image
from envbuilder.lock.sources.source_archive import SourceArchive, pack
from envbuilder.lock.sources.static_metadata import (
    StaticMetadata,
    static_metadata,
    stub_wheel,
)
from envbuilder.lock.toolchain import capabilities_of, find_nvcc
from envbuilder.lock.validation import find_problems
from envbuilder.model import BuildTool, Lock, Source, SourceKind, Toolchain
from envbuilder.network import Network
from envbuilder.render.context import COMPILED_LABEL, place_of, render_context

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docker/images"
CUDA_13 = IMAGES / "cu130-torch2.14.1-py3.13-debian13" / LOCK_FILE
CUDA_12 = IMAGES / "cu124-torch2.6.0-py3.13-debian13" / LOCK_FILE
POLICY = catalog.load().policy
SOURCE = Source(
    name="line-ops",
    version=Version("0"),
    kind=SourceKind.SDIST,
    origin=cuda_package.ARCHIVE,
    archive=cuda_package.ARCHIVE,
    sha256="1" * 64,
)
TOOL = BuildTool(name="ninja", version=Version("1.13.0"), sha256="2" * 64)
ALLOWED = CompileSettings(allowed=frozenset({"line-ops"}), recipes=POLICY.sources)


def lock_of(path: Path) -> Lock:
    return parse_lock(path.read_text(encoding="utf-8"), source=str(path))


def archive_of(folder: Path, files: dict[str, str]) -> SourceArchive:
    content = pack({name: (text.encode(), False) for name, text in files.items()})
    path = folder / "a.tar"
    path.write_bytes(content)
    return SourceArchive(path)


def compiled_lock(folder: Path, preset: Path = CUDA_13) -> Lock:
    """A preset with a package that is compiled, as `lock` makes it."""
    path = folder / cuda_package.ARCHIVE
    path.write_bytes(cuda_package.source_package())
    lock = lock_of(preset)
    source, _ = plan_for_image(SOURCE, SourceArchive(path), lock.stack, ALLOWED)
    stack = replace(lock.stack, extras=("line-ops",))
    toolchain = Toolchain(capabilities=("9.0",), tools=(TOOL,))
    return replace(lock, stack=stack, sources=(source,), toolchain=toolchain)


# --- may it be compiled --------------------------------------------------------------------------------------------


def test_deepspeed_compiles_nothing_and_flash_attn_is_answered(tmp_path: Path) -> None:
    stack = lock_of(CUDA_13).stack
    archive = archive_of(tmp_path, {"csrc/a.cu": "", "setup.py": "CUDAExtension"})
    assert not must_compile(archive, "deepspeed", stack, ALLOWED)
    assert ALLOWED.environment_of("deepspeed") == (("DS_BUILD_OPS", "0"),)
    assert "`--flavor devel`" in ALLOWED.advice_of("deepspeed")
    allowed = replace(ALLOWED, allowed=frozenset({"flash-attn"}))
    with pytest.raises(LockError, match="72 CUDA files") as caught:
        must_compile(archive, "flash-attn", stack, allowed)
    assert list(caught.value.problems) == [
        f"as released it compiles against torch <2.14; this stack has {stack.torch}",
        "it has kernels for compute capability 8.0 and newer; the GPUs of sm_75 have none",
    ]
    assert "--index-url URL" in caught.value.hint
    older = replace(stack, torch=Version("2.13.0"), arch_list=("sm_90",))
    with pytest.raises(LockError) as caught:
        must_compile(archive, "flash-attn", older, allowed)
    assert not any("torch" in line or "none" in line for line in caught.value.problems)


def test_what_is_not_compiled_is_said(tmp_path: Path) -> None:
    lock = compiled_lock(tmp_path)
    assert list(_not_compiled(lock, ["line-ops"])) == []
    assert list(_not_compiled(lock, ["torch", "line-opts"])) == [
        "line-opts is not compiled, as it is not among the packages; add it: `--package line-opts`",
        "torch is not compiled: there is a wheel of it",
    ]


# --- what it depends on --------------------------------------------------------------------------------------------


def test_requirements_are_read_without_running_anything(tmp_path: Path) -> None:
    header = "Metadata-Version: 2.1\nName: a\nVersion: 1.2\nRequires-Python: >=3.8\n"
    egg = "torch\nnumpy>=1\n\n[:python_version < '3.9']\nold\n\n[test]\npytest\n"
    archive = archive_of(tmp_path, {"PKG-INFO": header, "a.egg-info/requires.txt": egg})
    metadata = static_metadata(archive)
    assert metadata == StaticMetadata(
        version=Version("1.2"),
        requires=(
            "torch",
            "numpy>=1",
            'old; python_version < "3.9"',
            'pytest; extra == "test"',
        ),
        requires_python=">=3.8",
    )
    newer = {"PKG-INFO": header + "Requires-Dist: einops\n"}
    assert static_metadata(archive_of(tmp_path, newer)).requires == ("einops",)
    project = '[project]\nname = "a"\nversion = "3"\ndependencies = ["torch>=2"]\n'
    files = {"pyproject.toml": project}
    assert static_metadata(archive_of(tmp_path, files)).requires == ("torch>=2",)
    dynamic = project.replace("dependencies", 'dynamic = ["dependencies"]\nx')
    for text in (dynamic, "[project]\n", ""):
        with pytest.raises(LockError, match="cannot be asked before it is compiled"):
            static_metadata(archive_of(tmp_path, {"pyproject.toml": text}))
    bad = {"PKG-INFO": header + "Requires-Dist: x @ https://host/x.whl\n"}
    with pytest.raises(LockError, match="names an address"):
        static_metadata(archive_of(tmp_path, bad))


def test_uv_reads_the_requirements_from_a_wheel_without_code() -> None:
    metadata = StaticMetadata(
        version=Version("1.2"),
        requires=("torch", 'pytest; extra == "test"'),
        requires_python=">=3.8",
    )
    name, content = stub_wheel("a-b", metadata)
    assert name == "a_b-1.2-py3-none-any.whl"
    assert stub_wheel("a-b", metadata)[1] == content
    with zipfile.ZipFile(BytesIO(content)) as wheel:
        assert sorted(wheel.namelist()) == [
            "a_b-1.2.dist-info/METADATA",
            "a_b-1.2.dist-info/RECORD",
            "a_b-1.2.dist-info/WHEEL",
        ]
        text = wheel.read("a_b-1.2.dist-info/METADATA").decode()
    assert "Requires-Dist: torch\n" in text
    assert text.endswith('extra == "test"\nProvides-Extra: test\n')


def test_a_package_that_excludes_the_python_is_refused(tmp_path: Path) -> None:
    header = "Metadata-Version: 2.1\nName: a\nVersion: 1\nRequires-Python: <3.10\n"
    archive = archive_of(tmp_path, {"PKG-INFO": header, "setup.py": ""})
    with pytest.raises(LockError, match=r"line-ops 1 needs Python <3\.10"):
        plan_for_image(SOURCE, archive, lock_of(CUDA_13).stack, ALLOWED)


# --- what compiles it ----------------------------------------------------------------------------------------------


def test_nvcc_comes_from_wheels_or_an_image_or_the_base() -> None:
    devel = POLICY.devel
    assert devel
    wheels = find_nvcc(lock_of(CUDA_13).stack, devel)
    assert "nvidia-cuda-nvcc==13.0.*" in wheels.requirements
    assert (wheels.image, wheels.host_compiler) == (None, None)
    stack = lock_of(CUDA_12).stack
    with pytest.raises(LockError, match=r"with glibc 2\.41 of debian 13, only up"):
        find_nvcc(stack, devel)
    base = replace(stack.base, os="debian 12", glibc=Version("2.36"))
    bookworm = replace(stack, base=base)
    image = find_nvcc(bookworm, devel)
    assert image.image == "nvidia/cuda:12.4.1-devel-ubuntu22.04"
    assert image.host_compiler is None
    older = replace(bookworm, cuda=Version("11.8.89"))
    assert find_nvcc(older, devel).host_compiler == "g++-11"
    newer = replace(devel, host_compilers={"debian 12": (12, 13)})
    with pytest.raises(LockError, match=r"takes g\+\+ up to 11; debian 12 has 12"):
        find_nvcc(older, newer)
    own = replace(stack, base=replace(stack.base, release=""))
    assert find_nvcc(own, devel).image is None
    with pytest.raises(LockError, match="nothing here brings nvcc"):
        find_nvcc(stack, None)


def test_it_is_compiled_for_the_requested_gpu_or_all() -> None:
    stack = lock_of(CUDA_13).stack
    assert capabilities_of(stack, Version("8.6")) == ("8.6",)
    stack = replace(stack, arch_list=("sm_75", "sm_90a", "sm_100", "compute_100"))
    assert capabilities_of(stack, None) == ("7.5", "9.0", "10.0")


# --- lock and context ----------------------------------------------------------------------------------------------


def test_a_lock_has_the_source_and_no_wheel(tmp_path: Path) -> None:
    lock = compiled_lock(tmp_path)
    assert list(find_problems(lock)) == []
    [source] = lock.compiled
    assert dict(source.environment) == {
        "FORCE_CUDA": "1",
        "LINE_OPS_FORCE_BUILD": "TRUE",
    }
    assert "line-ops" not in requirements_text(lock)
    problems = list(find_problems(replace(lock, toolchain=None)))
    assert problems == [
        "line-ops is compiled in the image, and the lock has nothing to compile it with"
    ]
    newer = replace(lock.stack, extras=("line-ops>=2",))
    assert list(find_problems(replace(lock, stack=newer))) == [
        "line-ops 1.0 is locked; the stack requires >=2"
    ]
    missing = replace(lock, sources=())
    assert list(find_problems(missing)) == [
        "line-ops is required but missing from the lock"
    ]


def rendered(lock: Lock) -> tuple[str, dict[str, str]]:
    """The Dockerfile, and the texts of the folder `compiled`."""
    context = render_context(lock, {cuda_package.ARCHIVE: b"archive"})
    place = place_of(lock.stack)
    texts = {}
    for name, text in context.files.items():
        if name.startswith(f"{place}/compiled/"):
            texts[name] = text
    archive = f"{place}/compiled/line-ops/{cuda_package.ARCHIVE}"
    assert context.archives == {archive: b"archive"}
    return context.files[f"{place}/Dockerfile"], texts


def stage(dockerfile: str) -> str:
    """The stage that compiles."""
    _, _, rest = dockerfile.partition("FROM uv AS compiled\n")
    return rest.partition("\n\n\n")[0]


def test_another_transformers_compiles_nothing_again(tmp_path: Path) -> None:
    lock = compiled_lock(tmp_path)
    dockerfile, texts = rendered(lock)
    wheels = []
    for wheel in lock.wheels:
        is_changed = wheel.name == "transformers"
        newer = replace(wheel, version=Version("5.0"), sha256="3" * 64)
        wheels.append(newer if is_changed else wheel)
    other, other_texts = rendered(replace(lock, wheels=tuple(wheels)))
    assert other_texts == texts
    assert stage(dockerfile) == stage(other) != ""
    place = place_of(lock.stack)
    requirements = texts[f"{place}/compiled/requirements.txt"]
    assert "\ntorch==2.14.1 --hash" in requirements
    assert "\nninja==1.13.0 --hash" in requirements
    assert requirements.count("--only-binary") == 1
    assert "transformers" not in requirements


def test_it_is_compiled_without_network_and_installed_last(tmp_path: Path) -> None:
    dockerfile, _ = rendered(compiled_lock(tmp_path))
    steps = stage(dockerfile).split("\nRUN ")
    [compiling] = [step for step in steps if "compile_sources.py wheel" in step]
    assert compiling.startswith("--network=none ")
    assert "AS toolkit" not in dockerfile
    assert dockerfile.index("layers/stack.txt") < dockerfile.index("from=compiled")
    assert f'LABEL {COMPILED_LABEL}="${{COMPILED}}"' in dockerfile
    plain = lock_of(CUDA_13)
    text = render_context(plain).files[f"{place_of(plain.stack)}/Dockerfile"]
    assert "compile" not in text


def test_the_toolkit_of_an_image_is_copied_into_a_stage(tmp_path: Path) -> None:
    lock = compiled_lock(tmp_path, CUDA_12)
    assert lock.toolchain
    image = "nvidia/cuda:12.4.1-devel-ubuntu22.04"
    toolchain = replace(lock.toolchain, toolkit=image, host_compiler="g++-13")
    dockerfile, texts = rendered(replace(lock, toolchain=toolchain))
    assert f"\nARG TOOLKIT={image}\n" in dockerfile
    assert "\nFROM ${TOOLKIT} AS toolkit\n" in dockerfile
    assert "COPY --link --from=toolkit /toolkit /usr/local/cuda" in stage(dockerfile)
    assert "--no-install-recommends g++-13 " in stage(dockerfile)
    plan = json.loads(texts[f"{place_of(lock.stack)}/compiled/line-ops/plan.json"])
    assert plan[0]["host_compiler"] == "g++-13"
    # A runtime image stays one.
    assert "CUDA_HOME" not in dockerfile.partition("# --- system")[2]


# --- the program in the image --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program() -> Iterator[ModuleType]:
    folder = str(resources.folder("sources"))
    sys.path.insert(0, folder)
    yield importlib.import_module("compile_sources")
    sys.path.remove(folder)


def test_the_build_sees_seeds_and_nothing_of_the_surroundings(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = tmp_path / "lib/python3.13/site-packages/nvidia/cu13"
    for name in ("bin/nvcc", "lib/libcudart.so.13"):
        (cuda / name).parent.mkdir(parents=True, exist_ok=True)
        (cuda / name).touch()
    jobs = tmp_path / "jobs"
    jobs.write_text("3\n")
    monkeypatch.setattr(program, "JOBS", jobs)
    monkeypatch.setenv("LD_PRELOAD", "x")
    package = {
        "name": "line-ops",
        "capabilities": ["8.6", "9.0"],
        "host_compiler": "g++-13",
        "environment": {"FORCE_CUDA": "1"},
    }
    env = program.environment(package, tmp_path, tmp_path)
    assert env["TORCH_CUDA_ARCH_LIST"] == "8.6;9.0"
    assert env["MAX_JOBS"] == "3"
    assert env["NVCC_APPEND_FLAGS"] == "--frandom-seed=line-ops"
    assert env["NVCC_PREPEND_FLAGS"] == "-ccbin g++-13"
    assert (env["CC"], env["CUDA_HOME"]) == ("gcc-13", str(cuda))
    assert "LD_PRELOAD" not in env
    assert (cuda / "lib64/libcudart.so").exists()
    jobs.write_text("many; rm")
    with pytest.raises(program.BuildError, match="not a number of jobs"):
        program.jobs()


def wheel_with(path: Path, date: tuple[int, ...], order: tuple[str, ...]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name in order:
            wheel.writestr(zipfile.ZipInfo(name, date), name)  # type: ignore[arg-type]
    return path


def test_a_wheel_is_written_so_that_only_its_content_counts(
    program: ModuleType, tmp_path: Path
) -> None:
    names = ("a/__init__.py", "a-1.dist-info/METADATA", "a-1.dist-info/RECORD")
    made = []
    for number, order in enumerate((names, names[::-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        wheel = wheel_with(
            folder / "a-1-cp313-cp313-linux_x86_64.whl",
            (2020 + number, 1, 1, 0, 0, 0),
            order,
        )
        target = folder / "settled.whl"
        program.strip_wheel(wheel, target)
        made.append(target.read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(BytesIO(made[0])) as zipped:
        record = zipped.read("a-1.dist-info/RECORD").decode()
    assert "a/__init__.py,sha256=" in record
    package = {"name": "a", "version": "2"}
    with pytest.raises(program.BuildError, match="the lock has a 2"):
        program.check_name(Path("a-1-py3-none-any.whl"), package)
    program.check_name(Path("a-2+cu130-py3-none-any.whl"), package)


ROW = {
    "name": "line-ops",
    "version": "1.0",
    "wheel": "line_ops-1.0-cp313-cp313-linux_x86_64.whl",
    "sha256": "4" * 64,
    "size": 10,
    "capabilities": ["9.0"],
    "nvcc": "13.0.88",
}


def test_the_wheels_are_listed_for_the_installer_and_the_image(
    program: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "line-ops.json").write_text(json.dumps(ROW))
    program.list_wheels(tmp_path)
    program.list_wheels(tmp_path)  # its own report is none of the wheels
    text = (tmp_path / "requirements.txt").read_text()
    assert f"line-ops @ file:///wheels/{ROW['wheel']} --hash=sha256:{'4' * 64}" in text
    wheels = read_report((tmp_path / REPORT).read_bytes())
    assert label_of(wheels) == f"line-ops==1.0@sha256:{'4' * 64}"


def test_report_label_and_lock_have_to_agree(tmp_path: Path) -> None:
    lock = compiled_lock(tmp_path)
    files = {REPORT: json.dumps([ROW]).encode()}
    good = {COMPILED_LABEL: f"line-ops==1.0@sha256:{'4' * 64}"}
    assert list(compiled_problems(lock, files, good)) == []
    assert list(compiled_problems(lock, files, {COMPILED_LABEL: ""})) == []
    [problem] = compiled_problems(lock, files, {COMPILED_LABEL: "line-ops==1.0@x"})
    assert "the label dev.envbuilder.compiled says line-ops==1.0@x" in problem
    [problem] = compiled_problems(lock, {}, good | {COMPILED_LABEL: ""})
    assert "compiled.json has nothing; the lock has line-ops" in problem
    damaged = {REPORT: b'[{"name": "../x"}]'}
    with pytest.raises(UsageError, match="is invalid"):
        read_report(damaged[REPORT])
    assert len(list(compiled_problems(lock, damaged, good))) == 1
    assert list(compiled_problems(lock_of(CUDA_13), {}, {})) == []


# --- the build -----------------------------------------------------------------------------------------------------


def test_the_hash_becomes_a_label_out_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[BuildOptions, object]] = []

    def build_again(
        lock: Lock, engine: object, session: object, options: BuildOptions, **more: Any
    ) -> tuple[Built, float]:
        asked.append((options, more["arguments"]))
        return Built(image="sha256:labelled", steps=2, cached=2), 1.0

    said: list[str] = []
    content = json.dumps([ROW]).encode()
    engine: Any = SimpleNamespace(read_folder=lambda *_: {REPORT: content})
    session: Any = SimpleNamespace(console=SimpleNamespace(say=said.append))
    monkeypatch.setattr(pipeline, "build_context", build_again)
    built = Built(image="sha256:first", steps=2, cached=0)
    options = BuildOptions(no_cache=True)
    lock = compiled_lock(tmp_path)
    labelled, _ = pipeline._with_label(built, lock, engine, session, options)
    assert (labelled.image, labelled.cached) == ("sha256:labelled", 0)
    label = f"line-ops==1.0@sha256:{'4' * 64}"
    assert asked == [(BuildOptions(), {"COMPILED": label})]
    assert said == [f"compiled {ROW['wheel']}: sha256 {'4' * 64}"]


def test_the_number_of_jobs_and_a_mirror_reach_the_build() -> None:
    argv = build_argv(
        Path("context"),
        dockerfile="Dockerfile",
        iidfile=Path("i"),
        metadata=Path("m"),
        options=BuildOptions(),
        network=Network(),
        jobs="MAX_JOBS",
    )
    assert "id=max-jobs,env=MAX_JOBS" in argv
    stack = lock_of(CUDA_12).stack
    mirror = Network(registry_mirror="mirror.example/hub")
    image = "nvidia/cuda:12.4.1-devel-ubuntu22.04"
    arguments = pipeline.build_arguments(stack, mirror, toolkit=image)
    assert arguments["TOOLKIT"] == f"mirror.example/hub/{image}"
    assert "TOOLKIT" not in pipeline.build_arguments(stack, Network(), toolkit=image)
