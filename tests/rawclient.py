"""A small client of the MariaDB protocol for what others refuse to send: any bytes, a change of user."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct

_LONG_PASSWORD = 0x1
_LONG_FLAG = 0x4
_CONNECT_WITH_DB = 0x8
_PROTOCOL_41 = 0x200
_TRANSACTIONS = 0x2000
_SECURE_CONNECTION = 0x8000
_PLUGIN_AUTH = 0x80000
_CAPABILITIES = _LONG_PASSWORD | _LONG_FLAG | _PROTOCOL_41 | _TRANSACTIONS | _SECURE_CONNECTION | _PLUGIN_AUTH
_UTF8MB4 = 45
_NATIVE = b"mysql_native_password\0"
_OK, _ERROR, _EOF = 0x00, 0xFF, 0xFE


class ServerError(Exception):
    """The server's error packet."""

    def __init__(self, packet: bytes) -> None:
        (self.code,) = struct.unpack("<H", packet[1:3])
        super().__init__(self.code, packet[3:].decode("utf-8", "backslashreplace"))


def _scramble(password: bytes, salt: bytes) -> bytes:
    if not password:
        return b""
    first = hashlib.sha1(password).digest()
    second = hashlib.sha1(salt + hashlib.sha1(first).digest()).digest()
    return bytes(a ^ b for a, b in zip(first, second))


class RawClient:
    """One session: over the unix socket, or over TCP when `host` is given, from the address `source`."""

    def __init__(
        self,
        user: bytes,
        password: bytes = b"",
        *,
        socket_path: str = "",
        host: str = "",
        port: int = 0,
        source: str = "",
        database: bytes | None = None,
        timeout: float = 20.0,
    ) -> None:
        if host:
            self._socket = socket.create_connection((host, port), timeout, (source, 0) if source else None)
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            self._socket.connect(socket_path)
        self._sequence = 0
        try:
            self._log_in(user, password, database)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _log_in(self, user: bytes, password: bytes, database: bytes | None) -> None:
        greeting = self._read()
        if greeting[0] == _ERROR:
            raise ServerError(greeting)
        at = greeting.index(b"\0", 1) + 1
        (self.connection_id,) = struct.unpack("<I", greeting[at : at + 4])
        self._salt = greeting[at + 4 : at + 12] + greeting[at + 31 : at + 43]
        capabilities = _CAPABILITIES | (_CONNECT_WITH_DB if database is not None else 0)
        answer = _scramble(password, self._salt)
        packet = struct.pack("<IIB23x", capabilities, 1 << 24, _UTF8MB4)
        packet += user + b"\0" + bytes([len(answer)]) + answer
        if database is not None:
            packet += database + b"\0"
        self._write(packet + _NATIVE)
        self._finish_login(password)

    def _finish_login(self, password: bytes) -> None:
        while True:
            packet = self._read()
            if packet[0] == _OK:
                return
            if packet[0] == _ERROR:
                raise ServerError(packet)
            end = packet.index(b"\0", 1)
            if packet[0] == _EOF and packet[1 : end + 1] == _NATIVE:
                self._write(_scramble(password, packet[end + 1 : end + 21]))
            else:
                self._write(b"")

    def change_user(self, user: bytes, password: bytes = b"", database: bytes = b"") -> None:
        """Send COM_CHANGE_USER."""
        self._sequence = 0
        answer = _scramble(password, self._salt)
        packet = b"\x11" + user + b"\0" + bytes([len(answer)]) + answer + database + b"\0"
        self._write(packet + struct.pack("<H", _UTF8MB4) + _NATIVE)
        self._finish_login(password)

    def query(self, sql: str) -> list[list[bytes | None]]:
        """Run one statement and give its rows."""
        self._sequence = 0
        self._write(b"\x03" + sql.encode())
        packet = self._read()
        if packet[0] == _ERROR:
            raise ServerError(packet)
        if packet[0] == _OK:
            return []
        for _ in range(packet[0] + 1):
            self._read()
        rows: list[list[bytes | None]] = []
        while True:
            packet = self._read()
            if packet[0] == _EOF and len(packet) < 9:
                return rows
            if packet[0] == _ERROR:
                raise ServerError(packet)
            rows.append(_fields(packet))

    def close(self) -> None:
        """Leave with COM_QUIT."""
        self._sequence = 0
        with contextlib.suppress(OSError):
            self._write(b"\x01")
        self._socket.close()

    def _read(self) -> bytes:
        head = self._exactly(4)
        self._sequence = (head[3] + 1) & 255
        return self._exactly(head[0] | head[1] << 8 | head[2] << 16)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise EOFError("the server closed the connection")
            data += more
        return data

    def _write(self, packet: bytes) -> None:
        self._socket.sendall(struct.pack("<I", len(packet))[:3] + bytes([self._sequence]) + packet)
        self._sequence = (self._sequence + 1) & 255


def _fields(packet: bytes) -> list[bytes | None]:
    fields: list[bytes | None] = []
    at = 0
    while at < len(packet):
        size = packet[at]
        at += 1
        if size == 251:
            fields.append(None)
            continue
        if size >= 252:
            width = {252: 2, 253: 3, 254: 8}[size]
            size = int.from_bytes(packet[at : at + width], "little")
            at += width
        fields.append(packet[at : at + size])
        at += size
    return fields
