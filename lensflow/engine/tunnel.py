"""The line that brings a dashboard on another machine to the browser in front of the reader."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import urlsplit


def tunnel(link: str, *, user: str, machine: str, login: str | None = None) -> str | None:
    """Return the ``ssh`` command that makes a dashboard's address work on the reader's own machine.

    Parameters
    ----------
    link
        Address of the dashboard, as it is where the driver runs.
    user
        Who may log in.
    machine
        Where the driver runs.
    login
        The host through which that machine is reached, None if it is reached by itself.

    Returns
    -------
    str or None
        None where the address has no port to bring over.
    """
    parts = urlsplit(link)
    if parts.port is None or parts.hostname is None:
        return None
    command = f"ssh -N -L {parts.port}:{parts.hostname}:{parts.port}"
    if login is None or login == machine:
        return f"{command} {user}@{machine}"
    if _is_local(parts.hostname):  # only there does the dashboard listen
        return f"{command} -J {user}@{login} {user}@{machine}"
    return f"{command} {user}@{login}"


def here(link: str) -> str:
    """Return the address as it is at the reader's end of the tunnel."""
    parts = urlsplit(link)
    return parts._replace(netloc=f"localhost:{parts.port}").geturl() if parts.port else link


def through_jupyter(link: str) -> str:
    """Return the address of a dashboard on this machine as a reader of a JupyterHub's notebook reaches it.

    That is through jupyter-server-proxy, which such hubs have; elsewhere, and of other machines, the address as it is.
    """
    prefix, parts = os.environ.get("JUPYTERHUB_SERVICE_PREFIX"), urlsplit(link)
    if prefix is None or parts.port is None or not (_is_local(parts.hostname or "") or _is_here(parts.hostname)):
        return link
    return f"{prefix.rstrip('/')}/proxy/{parts.port}{parts.path}"


def _is_here(host: str | None) -> bool:
    return host in {socket.gethostname(), socket.getfqdn()}


def _is_local(host: str) -> bool:
    """Whether an address is reached from its own machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def full_name(host: str) -> str:
    """Return a machine's name with its domain, by which others reach it, as far as this machine knows its own."""
    if "." in host or host != socket.gethostname():
        return host
    found = socket.getfqdn()
    return found if "." in found and not found.startswith("localhost") and not found.endswith(".arpa") else host


def login_host() -> str:
    """Return where the user sits: this machine, or the one that this process's SLURM job was submitted from."""
    return os.environ.get("SLURM_SUBMIT_HOST") or socket.gethostname()
