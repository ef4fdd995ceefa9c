"""pika's asyncio connection, with fewer and larger writes."""

import asyncio

from pika.adapters.asyncio_connection import AsyncioConnection


class GatheringConnection(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """Writes once for all that one turn of the loop sends. pika by itself writes three times for each message, which
    costs a system call each here and, with small packets, as much again at the broker.
    """

    _gathered: list[bytes] | None = None

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._gathered is None:
            self._gathered = []
            asyncio.get_running_loop().call_soon(self._write)
        self._gathered.append(data)

    def _adapter_disconnect_stream(self) -> None:
        self._write()
        super()._adapter_disconnect_stream()

    def _write(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered and self._transport is not None:
            super()._adapter_emit_data(b"".join(gathered))
