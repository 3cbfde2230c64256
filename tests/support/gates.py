"""Ways between the nodes of a cluster that can be cut, as a network that is partitioned cuts them: silently.

Every node listens behind two gates, one before its port and one before its bus, and tells the others the gates'
ports. A node's own connections come from an address of loopback that is its own, so a gate knows who comes. Clients
come from 127.0.0.1, and are let through always. Nothing here needs permissions.

As a program: `gates.py GATE:PORT:OWNER ...`; then a line on its input is the address of the node to cut off, and an
empty one lets all through again. It answers each line, and the start, with a line.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

CLIENT = "127.0.0.1"


def address_of(number: int) -> str:
    """Return the address that a node's own connections come from."""
    return f"127.0.1.{number + 1}"


class Gates:
    """The program, from the start of the block to its end.

    Args:
        ways: For each gate its own port, the port behind it, and the address of the node whose it is.
    """

    def __init__(self, ways: Sequence[tuple[int, int, str]]) -> None:
        self._words = [f"{gate}:{port}:{owner}" for gate, port, owner in ways]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, __file__, *self._words]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._heard()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        self._process.kill()
        with self._process:
            pass

    def cut(self, number: int) -> None:
        """Cut a node off from all others, in both directions."""
        self._say(address_of(number))

    def mend(self) -> None:
        """Let all through again; what was sent meanwhile comes late."""
        self._say("")

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        self._heard()

    def _heard(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"


class _Passing:
    """Who may pass now."""

    def __init__(self) -> None:
        self.cut_off = ""
        self.changed = asyncio.Condition()

    async def passes(self, source: str, owner: str) -> None:
        """Return as soon as bytes may pass between the two."""
        async with self.changed:
            await self.changed.wait_for(lambda: source == CLIENT or self.cut_off not in {source, owner})

    async def set(self, cut_off: str) -> None:
        """Cut off a node; none if the address is empty."""
        async with self.changed:
            self.cut_off = cut_off
            self.changed.notify_all()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str, owner: str) -> None:
        """Carry bytes one way until that side ends."""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self.passes(source, owner)
                writer.write(data)
                await writer.drain()
        writer.close()


async def _open(passing: _Passing, word: str) -> asyncio.Server:
    gate, port, owner = word.split(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = writer.get_extra_info("peername")[0]
        await passing.passes(source, owner)
        try:
            behind, back = await asyncio.open_connection(CLIENT, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(passing.pump(reader, back, source, owner), passing.pump(behind, writer, source, owner))

    return await asyncio.start_server(carry, CLIENT, int(gate))


async def _main(words: Sequence[str]) -> None:
    passing = _Passing()
    servers = [await _open(passing, word) for word in words]
    print("done", flush=True)  # noqa: T201 - the answer
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        await passing.set(line.decode().strip())
        print("done", flush=True)  # noqa: T201 - the answer
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
