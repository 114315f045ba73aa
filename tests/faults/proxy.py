"""Do: a TCP proxy on loopback that slows, swallows or cuts what goes through it, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from urllib.parse import urlsplit, urlunsplit

LATENCY_S = 0.15


class Proxy:
    """`toxic`: "" (nothing), "latency", "blackhole" (what is sent is swallowed, connections stay open) or "reset" (every
    connection is cut, new ones too)."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._behind = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self.toxic = ""
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()
        host = f"{parts.username}:{parts.password}@127.0.0.1:{self._port}"
        self.url = urlunsplit(parts._replace(netloc=host))

    def heal(self) -> None:
        """As a network that is back: what was swallowed is lost, so its connections end."""
        swallowed = self.toxic == "blackhole"
        self.toxic = ""
        if swallowed:
            self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(ready))
        self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._one, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        self._cut()
        tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.toxic == "reset":
                return
            up_reader, up_writer = await asyncio.open_connection(*self._behind)
            self._open.add(up_writer)
            ways = [
                asyncio.ensure_future(self._pump(reader, up_writer)),
                asyncio.ensure_future(self._pump(up_reader, writer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for one in ways:
                one.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            up_writer.close()
            self._open.discard(up_writer)
        except OSError:
            pass  # the server behind is away: the client sees its connection end
        finally:
            writer.close()
            self._open.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.toxic == "latency":
                    await asyncio.sleep(LATENCY_S)
                elif self.toxic == "reset":
                    return
                elif self.toxic == "blackhole":
                    continue
                writer.write(data)
                await writer.drain()

    def _cut(self) -> None:
        for writer in list(self._open):
            with contextlib.suppress(OSError):
                writer.transport.abort()
