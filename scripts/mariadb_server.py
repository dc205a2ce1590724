"""A throw-away MariaDB for tests and measurements: its own folder, port and socket, nothing installed or left behind.

``python scripts/mariadb_server.py run [--port N]`` starts one, prints its address and serves until Ctrl-C (or the
end of its standard input, with ``--until-eof``). Needs MariaDB's server programs: ``apt-get install mariadb-server``.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SERVERS = ("mariadbd", "mysqld")
INSTALLERS = ("mariadb-install-db", "mysql_install_db")
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
START_S = 60.0


def program(names: tuple[str, ...]) -> str | None:
    """The path of the first of these programs that is installed."""
    for name in names:
        found = shutil.which(name) or next((str(p) for place in PLACES if (p := Path(place) / name).is_file()), None)
        if found:
            return found
    return None


def missing() -> str:
    """Why no server can be started here; empty when one can."""
    lost = [names[0] for names in (SERVERS, INSTALLERS) if program(names) is None]
    return f"not installed: {', '.join(lost)} (apt-get install mariadb-server)" if lost else ""


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(port: int = 0) -> Iterator[str]:
    """A running server on the loopback address; gives its DSN. Raises RuntimeError when it does not start."""
    if reason := missing():
        raise RuntimeError(reason)
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="agentrl-mariadb-") as folder:
        data = Path(folder) / "data"
        user = getpass.getuser()
        options = ["--no-defaults", f"--datadir={data}", f"--user={user}"]
        install = [str(program(INSTALLERS)), *options, "--auth-root-authentication-method=normal", "--skip-test-db"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"mariadb-install-db failed: {(done.stderr or done.stdout)[-500:]}")
        log = Path(folder) / "log"
        command = [
            *(str(program(SERVERS)), *options),
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--socket={folder}/socket",
            f"--pid-file={folder}/pid",
            f"--log-error={log}",
            "--lower_case_table_names=1",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=64M",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(process, port, log)
            yield f"mysql://root@127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    told = log.read_text(errors="replace")[-800:] if log.is_file() else ""
    raise RuntimeError(f"the server did not start on port {port}: {told}")


def main() -> None:
    """``run``: serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    given = parser.parse_args()
    with server(given.port) as dsn, contextlib.suppress(KeyboardInterrupt):
        print(dsn, flush=True)
        if given.until_eof:
            sys.stdin.read()
        else:
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main()
