"""The commands that fix a machine, each with the page that documents it. What envbuilder itself fixes is not here."""

from dataclasses import dataclass

from envbuilder.host.records import Host

_TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
_CDI = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html"
_DRIVER = "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/"
_DEBIAN_DRIVER = "https://wiki.debian.org/NvidiaGraphicsDrivers"
_UBUNTU_DRIVER = (
    "https://documentation.ubuntu.com/server/how-to/graphics/install-nvidia-drivers/"
)
_PROXY = "https://docs.docker.com/engine/daemon/proxy/"
_APT, _DNF = (
    ("debian", "ubuntu", "linuxmint", "pop", "raspbian"),
    ("fedora", "rhel", "centos", "rocky", "almalinux", "amzn"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One command line, and the page that documents it."""

    command: str
    source: str


NONE = Remedy(command="", source="")
DEBIAN_DOCKER = Remedy(
    command="curl -fsSL https://get.docker.com | sudo sh",
    source="https://docs.docker.com/engine/install/debian/#install-using-the-convenience-script",
)
BOOTSTRAP_TOOLS = Remedy(
    command="sudo apt-get install mmdebstrap debian-archive-keyring",
    source="https://manpages.debian.org/stable/mmdebstrap/mmdebstrap.1.en.html",
)
START_DOCKER = Remedy(
    command="sudo systemctl start docker",
    source="https://docs.docker.com/engine/daemon/start/",
)
START_DESKTOP = Remedy(
    command="docker desktop start",
    source="https://docs.docker.com/reference/cli/docker/desktop/start/",
)
JOIN_DOCKER = Remedy(
    command="sudo usermod -aG docker $USER && newgrp docker",
    source="https://docs.docker.com/engine/install/linux-postinstall/",
)
UBUNTU_DOCKER = Remedy(
    command="sudo apt-get install docker.io docker-buildx docker-compose-v2",
    source="https://ubuntu.com/server/docs/how-to/containers/docker-for-system-admins/",
)
UBUNTU_BUILDX = Remedy(
    command="sudo apt-get install docker-buildx", source=UBUNTU_DOCKER.source
)
UBUNTU_COMPOSE = Remedy(
    command="sudo apt-get install docker-compose-v2", source=UBUNTU_DOCKER.source
)
DOCKER_PLUGINS = Remedy(
    command="sudo dnf install docker-buildx-plugin docker-compose-plugin",
    source="https://docs.docker.com/engine/install/fedora/",
)
DOCKER_CONTEXTS = Remedy(
    command="docker context ls",
    source="https://docs.docker.com/engine/manage-resources/contexts/",
)
FORGET_HOST = Remedy(
    command="unset DOCKER_HOST",
    source="https://docs.docker.com/reference/cli/docker/#environment-variables",
)
NO_SNAP = Remedy(
    command="sudo snap remove docker",
    source="https://docs.docker.com/engine/install/ubuntu/",
)
NO_PODMAN_APT = Remedy(
    command="sudo apt-get remove podman-docker && curl -fsSL https://get.docker.com | sudo sh",
    source="https://docs.docker.com/engine/install/debian/#uninstall-old-versions",
)
NO_PODMAN_DNF = Remedy(
    command="sudo dnf remove podman-docker && "
    "sudo dnf install docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin",
    source="https://docs.docker.com/engine/install/fedora/",
)
PRUNE = Remedy(
    command="docker system df && docker builder prune",
    source="https://docs.docker.com/engine/manage-resources/pruning/",
)
MORE_SHM = Remedy(
    command="docker run --shm-size=1g IMAGE train",
    source="https://docs.docker.com/reference/cli/docker/container/run/",
)
SET_CLOCK = Remedy(
    command="sudo timedatectl set-ntp true",
    source="https://www.freedesktop.org/software/systemd/man/latest/timedatectl.html",
)
SET_WSL_CLOCK = Remedy(
    command="sudo hwclock -s", source="https://github.com/microsoft/WSL/issues/10006"
)
ENGINE_PROXY = Remedy(
    command="sudo systemctl edit docker && sudo systemctl restart docker  # [Service] Environment=HTTPS_PROXY=…",
    source=_PROXY,
)
ENGINE_CA = Remedy(
    command="sudo update-ca-certificates && sudo systemctl restart docker",
    source="https://docs.docker.com/engine/network/ca-certs/",
)
ENGINE_CA_DNF = Remedy(
    command="sudo update-ca-trust && sudo systemctl restart docker",
    source=ENGINE_CA.source,
)
CONTAINER_CA = Remedy(
    command="docker run --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro IMAGE train",
    source="https://docs.docker.com/engine/network/ca-certs/",
)
LOGIN = Remedy(
    command="docker login", source="https://docs.docker.com/reference/cli/docker/login/"
)
SHOW_ROUTES = Remedy(
    command="ip route", source="https://man7.org/linux/man-pages/man8/ip-route.8.html"
)
SHOW_NAMES = Remedy(
    command="cat /etc/resolv.conf",
    source="https://man7.org/linux/man-pages/man5/resolv.conf.5.html",
)

INSTALL_TOOLKIT = Remedy(
    command="sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker",
    source=_TOOLKIT,
)
INSTALL_TOOLKIT_DNF = Remedy(
    command=INSTALL_TOOLKIT.command.replace("apt-get", "dnf"), source=_TOOLKIT
)
UPGRADE_TOOLKIT = Remedy(
    command="sudo apt-get update && sudo apt-get install --only-upgrade nvidia-container-toolkit",
    source=_TOOLKIT,
)
UPGRADE_TOOLKIT_DNF = Remedy(
    command="sudo dnf upgrade nvidia-container-toolkit", source=_TOOLKIT
)
CONFIGURE_RUNTIME = Remedy(
    command="sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
    source=_TOOLKIT,
)
ROOTLESS_GPU = Remedy(
    command="sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place",
    source=_TOOLKIT,
)
CDI_ON = Remedy(
    command="sudo nvidia-ctk runtime configure --runtime=docker --cdi.enabled && sudo systemctl restart docker",
    source="https://docs.docker.com/build/building/cdi/",
)
CDI_AGAIN = Remedy(
    command="sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", source=_CDI
)
ASK_FOR_GPU = Remedy(
    command="docker run --gpus all IMAGE train",
    source="https://docs.docker.com/engine/containers/gpu/",
)
REBOOT = Remedy(
    command="sudo reboot",
    source="https://github.com/NVIDIA/nvidia-container-toolkit/issues/394",
)
LOAD_UVM = Remedy(command="sudo nvidia-modprobe -u -c=0", source=_DRIVER)
FABRIC = Remedy(
    command="sudo systemctl enable --now nvidia-fabricmanager",
    source="https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide/",
)
MIG_INSTANCES = Remedy(
    command="sudo nvidia-smi mig -cgi 0 -C",
    source="https://docs.nvidia.com/datacenter/tesla/mig-user-guide/",
)
NO_NOUVEAU = Remedy(
    command='echo "blacklist nouveau" | sudo tee /etc/modprobe.d/blacklist-nouveau.conf && sudo update-initramfs -u && '
    "sudo reboot",
    source=_DRIVER,
)
NO_NOUVEAU_DNF = Remedy(
    command=NO_NOUVEAU.command.replace("update-initramfs -u", "dracut --force"),
    source=_DRIVER,
)
DEBIAN_DRIVER = Remedy(
    command="sudo apt-get install nvidia-driver firmware-misc-nonfree",
    source=_DEBIAN_DRIVER,
)
UBUNTU_DRIVER = Remedy(
    command="sudo ubuntu-drivers install --gpgpu", source=_UBUNTU_DRIVER
)
DNF_DRIVER = Remedy(command="sudo dnf install nvidia-open", source=_DRIVER)
WSL_DRIVER = Remedy(
    command="wsl.exe --update && wsl.exe --shutdown",
    source="https://docs.nvidia.com/cuda/wsl-user-guide/index.html",
)
NO_COMPAT = Remedy(
    command="unset LD_LIBRARY_PATH",
    source="https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html",
)
SHOW_GPUS = Remedy(
    command="unset NVIDIA_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES",
    source="https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html",
)
GIVE_GPUS = Remedy(command="docker run --gpus all IMAGE", source=SHOW_GPUS.source)
JETSON = Remedy(
    command="jetson-containers run $(autotag l4t-pytorch)",
    source="https://github.com/dusty-nv/jetson-containers",
)
SHOW_MODULE = Remedy(command="sudo dmesg | grep -i nvrm", source=_DRIVER)


def by_distribution(host: Host, apt: Remedy, dnf: Remedy) -> Remedy:
    """The command for the package manager of the host's distribution; apt's where the distribution is unknown."""
    return dnf if host.machine.distribution in _DNF else apt


def driver(host: Host) -> Remedy:
    """How to install or upgrade NVIDIA's driver on this distribution."""
    if host.machine.wsl:
        return WSL_DRIVER
    if host.machine.distribution == "ubuntu":
        return UBUNTU_DRIVER
    return by_distribution(host, DEBIAN_DRIVER, DNF_DRIVER)


def docker(host: Host) -> Remedy:
    """How to install Docker with buildx and Compose on this distribution."""
    if host.machine.distribution == "ubuntu":
        return UBUNTU_DOCKER
    return by_distribution(host, DEBIAN_DOCKER, DOCKER_PLUGINS)
