"""A sandbox that keeps accounts as sites do: slurmdbd above a MariaDB that only a socket in its folder leads to.

It needs Debian's packages slurmdbd, slurm-wlm-mysql-plugin and mariadb-server as well.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.slurm.sandbox import Sandbox
else:
    Sandbox = sys.modules["slurm_sandbox"].Sandbox
sandbox: Any = sys.modules["slurm_sandbox"]

PROGRAMS = ("slurmdbd", "mariadbd", "mariadb", "mariadb-install-db", "sacct")
SETUP = """\
create database slurm_acct_db; create user slurm@localhost; grant all on slurm_acct_db.* to slurm@localhost;
"""
CONFIGURATION = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=slurm_acct_db
StorageUser=slurm
CommunicationParameters=NoInAddrAny
"""
LEAN = ("--skip-networking", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=48M")


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [*sandbox.missing(), *(one for one in PROGRAMS if not sandbox.where(one))]


class BookkeepingSandbox(Sandbox):
    """A SLURM with accounts of its jobs."""

    def _accounting(self) -> str:
        lines = {"Type": "accounting_storage/slurmdbd", "Host": "127.0.0.1", "Port": self._door}
        lines["Pass"] = f"{self.folder}/munge.sock"  # where clients look for the socket; not in AuthInfo
        return "\n".join(f"AccountingStorage{name}={value}" for name, value in lines.items())

    @property
    def _door(self) -> int:
        return self.port + self.nodes + 1

    def _start_bookkeeper(self) -> None:
        data, door, me = f"--datadir={self.folder}/db", f"--socket={self.folder}/db.sock", f"--user={sandbox.user()}"
        root = "--auth-root-authentication-method=normal"
        install = [str(sandbox.where("mariadb-install-db")), "--no-defaults", data, me, root, "--skip-test-db"]
        subprocess.run(install, check=True, capture_output=True)
        self._start("mariadbd", "mariadbd", "--no-defaults", data, door, me, *LEAN)
        client = [str(sandbox.where("mariadb")), "--no-defaults", door]
        ask = [*client, "-e", "select 1"]
        self._await("MariaDB", lambda: not subprocess.run(ask, check=False, capture_output=True).returncode)
        subprocess.run([*client, "-e", SETUP], check=True, capture_output=True)
        path = self.folder / "slurmdbd.conf"  # it looks beside SLURM_CONF
        path.touch(0o600)
        path.write_text(CONFIGURATION.format(folder=self.folder, port=self._door, user=sandbox.user()))
        os.environ["MYSQL_UNIX_PORT"] = f"{self.folder}/db.sock"  # what its library takes "localhost" for
        try:
            self._start("slurmdbd", "slurmdbd", "-D")
        finally:
            del os.environ["MYSQL_UNIX_PORT"]
        self._await("slurmdbd", self._answers)

    def _answers(self) -> bool:
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", self._door)) == 0
