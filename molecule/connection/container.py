"""Connection to a test container by the engine's own `exec`, with pipelining: one process for each module."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: container
short_description: Run the tasks of the scenarios in podman's or docker's containers
description: Runs every command by C(podman exec) or C(docker exec).
author: The conntracker maintainers
options:
  remote_addr:
    description: Name of the container.
    default: inventory_hostname
    vars: [{name: inventory_hostname}]
  engine:
    description: podman or docker.
    default: podman
    vars: [{name: engine}]
"""


class Connection(ConnectionBase):
    """A container that runs already."""

    transport = "container"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def _engine(self, command: list[str], data: bytes | None = None) -> tuple[int, bytes, bytes]:
        engine, name = self.get_option("engine"), self.get_option("remote_addr")
        arguments = [engine, "exec", "-i", name, *command]
        done = subprocess.run(arguments, input=data or b"", capture_output=True, check=False)
        if b"no such container" in done.stderr.lower() or b"can only create exec sessions" in done.stderr.lower():
            raise AnsibleConnectionFailure(done.stderr.decode(errors="replace").strip())
        return done.returncode, done.stdout, done.stderr

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command line by the container's shell."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._engine(["/bin/sh", "-c", cmd], in_data)

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file into the container."""
        super().put_file(in_path, out_path)
        code, _, error = self._engine(["/bin/sh", "-c", 'cat > "$0"', out_path], Path(in_path).read_bytes())
        if code:
            raise AnsibleConnectionFailure(error.decode(errors="replace").strip())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file out of the container."""
        super().fetch_file(in_path, out_path)
        code, output, error = self._engine(["cat", in_path])
        if code:
            raise AnsibleConnectionFailure(error.decode(errors="replace").strip())
        Path(out_path).write_bytes(output)

    def close(self) -> None:
        """Nothing is kept open."""
        self._connected = False
