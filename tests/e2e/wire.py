"""A way to a server that can be cut: a process that passes connections on, until it is killed."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time

from tests.ports import free_port


class Wire:
    """Connections to one address of this machine that reach a server, or are refused and broken.

    Args:
        host: Name or address of the server.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self._command = [sys.executable, "-m", "tests.e2e.wire", str(self.port), host, str(port)]
        self._process: subprocess.Popen[bytes] | None = None
        self.fix()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def fix(self) -> None:
        """Let connections through again."""
        self._process = subprocess.Popen(self._command)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except OSError:
        pass
    finally:
        target.close()


async def _serve(port: int, host: str, far_port: int) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, far_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))

    server = await asyncio.start_server(connect, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
