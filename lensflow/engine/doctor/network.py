"""Ports and interfaces: is a port free, can others reach this host, and can they reach what they should not."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import psutil

from lensflow.engine.doctor.finding import Finding, fix, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lensflow.engine.doctor.wanted import Wanted

DASHBOARD = "127.0.0.1:8787"
INNER = ("docker", "virbr", "veth", "br-", "cni", "flannel", "podman")  # of containers: no other host is behind them
EVERYWHERE = {"", "0.0.0.0", "::", "[::]"}  # noqa: S104 - looked for, not bound


def ports(wanted: Wanted) -> Iterator[Finding]:
    """Look whether the ports that a profile asks for are free.

    Parameters
    ----------
    wanted
        The profile.
    """
    asked = str(wanted.option("dashboard_address", "scheduler_options.dashboard_address") or DASHBOARD)
    host, _, port = asked.rpartition(":")
    if host in EVERYWHERE:
        yield fix(
            "dashboard",
            f"{asked} shows every host that reaches this one what is run, and with what",
            f"dashboard_address: 127.0.0.1:{port}, and ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}",
        )
    if problem := taken(host, int(port or 0)):
        another = f"dashboard_address: 127.0.0.1:{free_port()} in the profile"
        yield warn("dashboard", f"port {port} is {problem}: a run takes another one and prints it", another)
    elif host not in EVERYWHERE:
        yield ok("dashboard", f"{asked} is free")
    scheduler = int(wanted.option("scheduler_port", "scheduler_options.port") or 0)
    if scheduler and (problem := taken("", scheduler)):
        yield fix("scheduler", f"port {scheduler} is {problem}", "scheduler_port: 0 in the profile (any free one)")


def taken(host: str, port: int) -> str:
    """Return why a port cannot be had; empty if it can."""
    if not port:
        return ""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("" if host in EVERYWHERE else host, port))
            trial.listen(1)
        except OSError as error:
            holder = _holder(port)
            return f"taken{holder}" if holder else f"not to be had ({error.strerror})"
    return ""


def free_port() -> int:
    """Return a port that nobody has at this moment."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _holder(port: int) -> str:
    """Return who listens on a port, as far as this user may know."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return ""
    for one in connections:
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port:
            try:
                return f" by process {one.pid} ({psutil.Process(one.pid).name()})" if one.pid else " by another user"
            except psutil.NoSuchProcess:
                return " by a process that has just ended"
    return ""


def interfaces(wanted: Wanted, addresses: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Look over which interface others would reach a scheduler here, and whether they should.

    Parameters
    ----------
    wanted
        The profile.
    addresses
        IPv4 address by interface; default: those of this host that are up.
    """
    found = up() if addresses is None else addresses
    others = outward(found)
    listed = ", ".join(f"{name} {address}" for name, address in others.items()) or "none but loopback"
    asked = wanted.option("interface", "scheduler_options.interface")
    if asked is not None and asked not in found:
        yield fix("interface", f"{asked} does not exist here or is down; there are {', '.join(found)}", _name(others))
    elif wanted.hosts == "one":
        yield _alone(wanted)
    elif not others:
        yield warn("interface", "loopback only: workers on other hosts cannot reach this one", "ip link, as root")
    elif asked is not None:
        yield ok("interface", f"{asked} {found[asked]}, as the profile asks")
    elif len(others) > 1:
        yield warn("interface", f"the profile names none, there are several: {listed}", _name(others))
    else:
        yield ok("interface", f"{listed}: others reach this host there")


def outward(addresses: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the interfaces behind which other hosts may be: neither loopback nor a container's."""
    found = up() if addresses is None else addresses
    return {
        name: address
        for name, address in found.items()
        if not address.startswith("127.") and not name.startswith(INNER)
    }


def up() -> dict[str, str]:
    """Return the IPv4 address of each interface that is up."""
    running = {name for name, one in psutil.net_if_stats().items() if one.isup}
    return {
        name: one.address
        for name, found in psutil.net_if_addrs().items()
        for one in found
        if one.family == socket.AF_INET and name in running
    }


def _name(others: Mapping[str, str]) -> str:
    return f"interface: {' or '.join(others) or 'lo'} in the profile (the one that the nodes share)"


def _alone(wanted: Wanted) -> Finding:
    """Judge a profile for one machine: nobody else need reach it."""
    host = str(wanted.option("host") or "127.0.0.1")
    if host.startswith("127.") or host in {"localhost", "::1"}:
        return ok("interface", "loopback only: nobody else can reach scheduler and workers")
    if host.startswith("tls://") or wanted.option("security"):
        return ok("interface", f"{host}, with TLS")
    return fix(
        "interface", f"{host} without TLS: whoever reaches it runs code as you", "host: 127.0.0.1 in the profile"
    )
