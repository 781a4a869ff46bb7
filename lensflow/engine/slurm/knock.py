"""Ask whether a scheduler answers: the first thing a job does. Copied into the cluster's folder and run from there.

    python knock.py HOST PORT [CERTIFICATE KEY]

A worker would try for a minute and say little; this says in seconds what is wrong, and jobs of a dead driver give
their nodes back at once. Only Python's own library: whether the rest is there is not known yet.
"""

import socket
import ssl
import sys
import time

TRIES, PAUSE, PATIENCE = 3, 2.0, 5.0  # s
REFUSED = 75  # exit code (EX_TEMPFAIL)


def knock(host: str, port: int, files: list[str]) -> None:
    """Connect once, with certificates where there are some; raises OSError (ssl.SSLError is one) if that fails."""
    with socket.create_connection((host, port), timeout=PATIENCE) as door:
        if files:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False  # as Dask does: the certificate is the cluster's, not the host's
            context.load_verify_locations(files[0])
            context.load_cert_chain(*files)
            with context.wrap_socket(door):
                pass


def main(words: list[str]) -> int:
    """Try a few times; return the exit code."""
    host, port, *files = words
    for rest in reversed(range(TRIES)):
        try:
            knock(host, int(port), files)
        except OSError as error:
            said = f"nobody answers at {host}:{port} from {socket.gethostname()} ({error})"
            if not rest:
                sys.stderr.write(f"lensflow: {said}\n")
                return REFUSED
            time.sleep(PAUSE)
        else:
            return 0
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
