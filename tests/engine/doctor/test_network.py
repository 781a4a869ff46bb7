"""Ports that are taken, interfaces that are missing, schedulers that are open to everybody."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from lensflow.engine.doctor.network import free_port, interfaces, outward, ports, taken, up
from lensflow.engine.doctor.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

ETHERNET = {"lo": "127.0.0.1", "eth0": "10.1.2.3"}
TWO = {**ETHERNET, "ib0": "10.9.2.3", "docker0": "172.17.0.1"}


@pytest.fixture
def held() -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(1)
        yield one.getsockname()[1]


def test_a_dashboard_port_that_is_taken(held: int) -> None:
    (found,) = ports(Wanted("mine", "local", {"dashboard_address": f"127.0.0.1:{held}"}))
    assert found.level == "WARN"  # a run takes another port by itself
    assert f"port {held} is taken by process {os.getpid()}" in found.found
    assert str(held) not in found.remedy


def test_a_schedulers_port_that_is_taken(held: int) -> None:
    options = {"scheduler_options": {"port": held, "dashboard_address": "127.0.0.1:0"}}
    found = {one.level: one for one in ports(Wanted("mine", "slurm", options))}
    assert f"port {held} is taken by process {os.getpid()}" in found["FIX"].found
    assert "0 in the profile" in found["FIX"].remedy


def test_a_port_that_is_forbidden() -> None:
    assert taken("203.0.113.7", free_port()).startswith("not to be had")  # an address of documents: never this host's
    assert taken("127.0.0.1", free_port()) == ""
    assert taken("127.0.0.1", 0) == ""


def test_free_ports() -> None:
    (found,) = ports(Wanted("mine", "local", {"dashboard_address": f"127.0.0.1:{free_port()}"}))
    assert found.level == "OK"


@pytest.mark.parametrize("address", [":{}", "0.0.0.0:{}"])
def test_a_dashboard_that_is_open_to_all(address: str) -> None:
    port = free_port()
    (found,) = ports(Wanted("mine", "slurm", {"scheduler_options": {"dashboard_address": address.format(port)}}))
    assert found.level == "FIX"
    assert f"ssh -L {port}:127.0.0.1:{port}" in found.remedy


@pytest.mark.parametrize(
    ("kind", "options", "addresses", "level", "word"),
    [
        ("local", {"host": "127.0.0.1"}, ETHERNET, "OK", "loopback only"),
        ("local", {"host": "0.0.0.0"}, ETHERNET, "FIX", "without TLS"),  # noqa: S104 - planted
        ("local", {"host": "tls://0.0.0.0"}, ETHERNET, "OK", "TLS"),
        ("slurm", {}, ETHERNET, "OK", "eth0 10.1.2.3"),
        ("slurm", {}, TWO, "WARN", "eth0 10.1.2.3, ib0 10.9.2.3"),
        ("slurm", {"interface": "ib0"}, TWO, "OK", "ib0 10.9.2.3"),
        ("slurm", {"interface": "ib1"}, TWO, "FIX", "ib1 does not exist"),
        ("slurm", {}, {"lo": "127.0.0.1"}, "WARN", "cannot reach"),
    ],
)
def test_interfaces(kind: str, options: dict[str, str], addresses: dict[str, str], level: str, word: str) -> None:
    (found,) = interfaces(Wanted("mine", kind, options), addresses)  # type: ignore[arg-type]
    assert found.level == level
    assert word in found.found
    assert bool(found.remedy) == (level != "OK")


def test_what_is_up_here() -> None:
    assert "127.0.0.1" in up().values()
    assert not any(address.startswith("127.") for address in outward().values())
    assert outward(TWO).keys() == {"eth0", "ib0"}
