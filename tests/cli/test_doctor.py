"""`envbuilder doctor` as a person and a program meet it."""

import json
import shlex
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import hosts
import pytest
from marks import few

from envbuilder import catalog
from envbuilder.host import local_probe
from envbuilder.network import Network

from .conftest import Run


@pytest.fixture(autouse=True)
def on_the_day_of_the_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = replace(catalog.load(), date=date(2026, 11, 23))
    monkeypatch.setattr(catalog, "load", lambda **_: facts)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Be on a recorded host."""

    def be(name: str) -> None:
        monkeypatch.setattr(
            local_probe, "new_probe", lambda *_: hosts.play(hosts.read(name))
        )

    return be


def nobody(*_: object) -> None:
    raise AssertionError("this machine was asked")


THIS_MACHINE = """\
This machine: Debian GNU/Linux 12 (bookworm), x86_64

✗ engine      no container engine answers at DOCKER_HOST
              nothing can be built or run without one (error: Cannot connect to the Docker daemon at
              unix:///run/elsewhere.sock. Is the docker daemon running?)
              $ unset DOCKER_HOST

! ca          this machine trusts a private CA that containers do not:
              /usr/local/share/ca-certificates/corporate-1.crt,
              /usr/local/share/ca-certificates/corporate-2.crt
              builds get it as a secret; a run that downloads fails with `certificate verify failed`
              $ docker run --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro IMAGE train

? unknown     nothing is known about disk, registry, user, cgroups, shm

· gpu         no NVIDIA GPU was found
              training runs on the CPU

✓ clock       2026-11-24 21:55 UTC
✓ buildx      buildx 0.13.1
✓ index       the package index answers
✓ compose     Compose 2.26.1
✓ build-ca    builds get /etc/ssl/certs/ca-certificates.crt as a secret
✓ bootstrap   base images can be built from Debian packages

1 error, 1 warning, 5 unknown, 6 fine; fix engine first, then run `envbuilder doctor` again
"""


def test_the_answer_for_a_person(run: Run, on: Any) -> None:
    on("engine-elsewhere")
    answer = run("doctor")
    assert (answer.code, answer.out, answer.err) == (8, THIS_MACHINE, "")


def test_without_an_error_the_exit_code_is_0(run: Run, on: Any) -> None:
    on("workstation")
    assert run("doctor").code == 0


def test_the_contract_of_doctor_json(run: Run, on: Any) -> None:
    on("toolkit-missing")
    answer = run("doctor", "--json")
    document = json.loads(answer.out)
    assert (answer.code, document["schema"], document["ok"]) == (8, 1, False)
    assert document["findings"][0] == {
        "id": "gpu-access",
        "severity": "error",
        "message": "containers see no GPU: the NVIDIA Container Toolkit is not installed",
        "why": '`docker run --gpus all` fails with `could not select device driver "" with capabilities: [[gpu]]`',
        "remedy": "sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure "
        "--runtime=docker && sudo systemctl restart docker",
        "source": "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html",
    }
    assert document["host"]["gpu"]["devices"] == [
        {"name": "NVIDIA GeForce RTX 3090", "capability": "8.6", "mig": False}
    ]
    assert document["host"]["gpu"]["driver"] == "550.54.15"


def test_host_file_describes_another_machine(
    run: Run, on: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on("gpu-too-new")
    (tmp_path / "host.json").write_text(run("doctor", "--json").out)
    monkeypatch.setattr(local_probe, "new_probe", nobody)
    answer = run("doctor", "--target", "host.json", "--cuda", "11.7")
    assert answer.code == 8
    lines = answer.out.splitlines()
    assert lines[0] == "host.json: Ubuntu 22.04.5 LTS, x86_64"
    assert (
        lines[2]
        == "✗ stack       torch 2.0.1 for CUDA 11.7 has no kernels for NVIDIA GeForce RTX 5090 (12.0)"
    )


def test_gpu_and_driver_options_describe_another_machine(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_probe, "new_probe", nobody)
    answer = run("doctor", "--gpu", "H100", "--driver", "535.104.05", "--cuda", "11.7")
    assert answer.code == 8
    lines = answer.out.splitlines()
    assert lines[0] == "A machine with GPU H100 and driver 535.104.05"
    assert (
        lines[2]
        == "✗ stack       torch 2.0.1 for CUDA 11.7 has no kernels for H100 (9.0)"
    )
    assert (
        run("doctor", "--gpu", "A100", "--driver", "535.104.05", "--cuda", "11.7").code
        == 0
    )
    assert (
        run("doctor", "--gpu", "A100", "--driver", "440.33", "--cuda", "11.7").code == 8
    )


def test_a_version_that_is_unknown_is_named_once(run: Run) -> None:
    answer = run("doctor", "--gpu", "H100", "--cuda", "99")
    assert answer.out.count("CUDA 99 is not in the catalog") == 1
    assert "known: 10.0" in answer.out


def test_the_build_without_a_registry_keeps_the_request(run: Run, on: Any) -> None:
    on("this-machine")
    words = ("--cuda", "12.4", "--package", "rich<14", "--base", "auto")
    build = "envbuilder build --cuda 12.4 --base bootstrap --package 'rich<14'"
    assert build in run("doctor", *words).out
    assert "$ envbuilder build --base bootstrap\n" in run("doctor").out


def test_options_override_the_host_file(run: Run, on: Any, tmp_path: Path) -> None:
    on("workstation")
    (tmp_path / "host.json").write_text(run("doctor", "--json").out)
    assert run("doctor", "--target", "host.json", "--cuda", "11.7").code == 0
    assert (
        run("doctor", "--target", "host.json", "--cuda", "11.7", "--gpu", "H100").code
        == 8
    )


def test_settings_file_provides_the_request(run: Run, on: Any, tmp_path: Path) -> None:
    on("gpu-too-new-cuda-11.7")
    (tmp_path / "envbuilder.toml").write_text('cuda = "11.7"\n')
    assert "has no kernels for" in run("doctor").out


def test_documentation_shows_real_output(
    run: Run, on: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on("toolkit-missing")
    monkeypatch.setenv("COLUMNS", "110")
    said = (
        run("doctor").out
        + run("doctor", *shlex.split("--gpu H100 --driver 535.104.05 --cuda 11.7")).out
    )
    blocks = (root / "docs" / "how-to" / "doctor.md").read_text().split("```")[1::2]
    lines = [
        line
        for block in blocks
        for line in block.splitlines()[1:]
        if line and "…" not in line
    ]
    shown = [
        line
        for line in lines
        if not line.split()[0].endswith("$") or line.startswith(" ")
    ]
    assert len(shown) > 8
    assert [line for line in shown if line not in said.splitlines()] == []


def test_host_file_cannot_move_the_cursor(run: Run, tmp_path: Path) -> None:
    host = {
        "machine": {"os": "\x1b[2Jx"},
        "engine": {"failure": "other", "message": "\x1b]0;title\x07"},
        "gpu": {"driver": "535.1\n"},
    }
    (tmp_path / "host.json").write_text(json.dumps({"host": host}))
    answer = run("doctor", "--target", "host.json")
    assert answer.code == 2
    assert "Expected one line of text - at `$.machine.os`" in answer.err
    assert "\x1b" not in answer.out + answer.err
    assert "\x07" not in answer.out + answer.err


@pytest.mark.parametrize(
    "words",
    few(
        [
            (("--target", "nowhere.json"),),
            (("--target", "other.json"),),
            (("--gpu", "Voodoo 2"),),
            (("--driver", "new"),),
            (("--cuda", "x"),),
        ],
        fast=4,
    ),
)
def test_bad_options_exit_2(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "other.json").write_text('{"host": {"gpu": {"devices": "many"}}}')
    answer = run("doctor", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert "hint: " in answer.err


def test_the_probe_of_this_machine(
    run: Run, facts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = local_probe.new_probe(Network(), facts)
    assert here.run(["no-such-program-at-all"]).returncode == 127
    monkeypatch.setattr(local_probe, "_PATIENCE", 0.2)
    assert here.run(["sleep", "30"]).returncode == 124
    (tmp_path / "file").write_text("text")
    assert (here.read(str(tmp_path / "file")), here.read(str(tmp_path / "other"))) == (
        "text",
        None,
    )
    assert (here.names(str(tmp_path)), here.names(str(tmp_path / "other"))) == (
        ["file"],
        (),
    )


def test_registry_is_not_checked_without_an_engine(run: Run, facts: Any) -> None:
    assert local_probe.new_probe(Network(), facts).reach_registry().returncode == 127


def test_a_grace_is_a_machine_with_arm64(run: Run) -> None:
    fits = run("doctor", "--gpu", "GB10", "--cuda", "13.0", "--json")
    assert json.loads(fits.out)["host"]["machine"]["processor"] == "aarch64"
    assert fits.code == 0
    clash = run("doctor", "--gpu", "GB10", "--platform", "amd64", "--json")
    first = json.loads(clash.out)["findings"][0]
    assert first["message"].endswith(
        "is for linux/amd64, but this machine is linux/arm64"
    )


def test_a_gpu_of_another_maker_has_no_doctor(run: Run) -> None:
    answer = run("doctor", "--gpu", "MI300X")
    assert answer.code == 2
    assert "is made by AMD" in answer.err
    assert "--flavour cpu" in answer.err


def test_a_page_to_read_instead_of_a_command(run: Run) -> None:
    answer = run("doctor", "--gpu", "GTX 1080 Ti", "--driver", "590.48.01")
    assert "see https://www.nvidia.com/en-us/drivers/unix/" in answer.out
