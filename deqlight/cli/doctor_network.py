"""Station 1, the doctor: how processes of one run would find each other."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from .doctor_finding import BROKEN, NOTE, OK, Finding

__all__ = ["environment", "network"]

PREFIXES = ("MASTER_", "TORCHELASTIC_", "SLURM_", "GLOO_", "TP_", "NCCL_", "DEQLIGHT_", "OMP_", "TORCH_")
NAMES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "CUDA_VISIBLE_DEVICES",
    "TMPDIR",
)
SECRET = ("KEY", "TOKEN", "SECRET", "PASSW", "JWT")
SIOCGIFADDR = 0x8915
"""The question to the kernel of Linux for an interface's IPv4 address."""


def network() -> Iterator[Finding]:
    """Backends, interfaces, and what the machine's own name resolves to."""
    yield _backends()
    addresses = {name: _address(name) for _, name in socket.if_nameindex()}
    yield Finding("interfaces", ", ".join(f"{name} {address or '-'}" for name, address in addresses.items()))
    yield _resolution(socket.gethostname(), {n: a for n, a in addresses.items() if a and not _loopback(a)})
    yield _gloo()


def environment() -> Iterator[Finding]:
    """What torchrun, SLURM, gloo and NCCL are told by variables, and whether that can be."""
    told = {n: v for n, v in sorted(os.environ.items()) if n in NAMES or n.startswith(PREFIXES)}
    for name, value in told.items():
        yield Finding(name, "(set)" if any(word in name for word in SECRET) else value, *_judged(name, value))
    if not told:
        yield Finding("environment", "no variable of torchrun, SLURM, gloo or NCCL is set: one machine")


def _judged(name: str, value: str) -> tuple[str, str]:
    """State and remedy of a variable."""
    if name == "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" and value not in ("", "0"):
        return NOTE, "makes torch.load run code that is in files; unset it"
    if name == "MASTER_PORT" and not (value.isdigit() and 0 < int(value) < 65536):
        return BROKEN, "is no port; a number from 1 to 65535"
    if name == "MASTER_ADDR" and not resolved(value):
        return BROKEN, "does not resolve; give the address of the first machine"
    if name in ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME") and not {*value.split(",")} <= _interfaces():
        return BROKEN, f"this machine has no such interface; it has {', '.join(sorted(_interfaces()))}"
    if name == "RANK" and value.isdigit() and int(value) >= _number("WORLD_SIZE", int(value) + 1):
        return BROKEN, "ranks are counted from 0, so it must be less than WORLD_SIZE"
    return OK, ""


def _backends() -> Finding:
    if not dist.is_available():
        return Finding("backends", "torch was built without torch.distributed", BROKEN, "one process only")
    there = {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available(), "mpi": dist.is_mpi_available()}
    lacking = torch.cuda.is_available() and not there["nccl"]
    found = ", ".join(name for name, is_there in there.items() if is_there)
    return Finding("backends", found, NOTE if lacking else OK, "several GPUs need nccl" if lacking else "")


def _resolution(name: str, outside: dict[str, str]) -> Finding:
    addresses = resolved(name)
    chosen = os.environ.get("GLOO_SOCKET_IFNAME")
    example = next(iter(outside), "eth0")
    if not addresses:
        remedy = f"add it to /etc/hosts, or set GLOO_SOCKET_IFNAME={example}"
        return Finding("host name", f"{name} does not resolve", OK if chosen else NOTE, "" if chosen else remedy)
    found = f"{name} is {', '.join(addresses)}"
    if chosen or not all(map(_loopback, addresses)):
        return Finding("host name", found)
    remedy = (
        "a loopback address: across machines gloo would tell the others to connect to themselves; "
        f"set GLOO_SOCKET_IFNAME={example} on each machine, or mend /etc/hosts"
    )
    return Finding("host name", found, BROKEN if _several_machines() else NOTE, remedy)


def _gloo() -> Finding:
    """A group of this process alone: it needs a name that resolves and an interface that listens."""
    if dist.is_initialized() or not dist.is_gloo_available():
        return Finding("gloo", "not tried", NOTE)
    try:
        dist.init_process_group("gloo", store=_store(), rank=0, world_size=1)
    except (RuntimeError, ValueError) as error:
        told = str(error).splitlines()[0]
        return Finding("gloo", f"no group can be made: {told}", BROKEN, "see interfaces and host name above")
    try:
        one = torch.ones(1)
        dist.all_reduce(one)
    finally:
        dist.destroy_process_group()
    return Finding("gloo", "a group of one process works")


def _store() -> Any:
    return torch.distributed.HashStore()  # type: ignore[attr-defined]  # it is public, but for the type checker


def resolved(name: str) -> list[str]:
    """The addresses of a name; none where it has none."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except OSError:
        return []


def _address(interface: str) -> str | None:
    """An interface's IPv4 address, where the system can be asked as Linux can."""
    try:
        from fcntl import ioctl
    except ImportError:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = ioctl(asked.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def _interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def _loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _several_machines() -> bool:
    """Whether the environment says that a run has several machines: only then does a loopback address break it."""
    return max(_number("SLURM_NNODES", 1), _number("WORLD_SIZE", 1) // max(1, _number("LOCAL_WORLD_SIZE", 1))) > 1


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default
