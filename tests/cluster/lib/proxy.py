# SPDX-License-Identifier: GPL-2.0-or-later
"""A proxy in the migration's way that can lose what is sent.

Forward goes the migration stream; nothing in it is understood, but it can be
held back, so that the source has sent everything and the destination has not
got it. Backward go the messages of the return path: be16 type, be16 length,
payload. The last of them is MIG_RP_MSG_SHUT, with the destination's verdict.
"""

import select
import socket
import struct
import threading
import time

from .lab import Host

SHUT = 1                                # MIG_RP_MSG_SHUT
_HEAD = struct.Struct('>HH')


class Proxy:
    def __init__(self, host: Host, target: str, drop: tuple[int, ...] = ()):
        """Wait on HOST for a source; TARGET is the destination's URI.
        Messages of a type in DROP are lost on the way back."""
        self._target = target
        self._host, self._drop = host, drop
        self.dropped: list[int] = []
        self.passed: list[int] = []
        self.forwarded = 0              # bytes that the destination got
        self.held = bytearray()
        self.source_ended = self.ended = False
        self._hold = self._closing = False
        self._lock = threading.Lock()
        self._listener = host.socket()
        self._listener.bind((host.address if host.lab.namespaces
                             else '127.0.0.1', 0))
        self._listener.listen(1)
        self.uri = 'tcp:%s:%d' % self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        host.lab.on_close(self.close)

    def hold(self) -> None:
        """From now on the destination gets nothing more."""
        self._hold = True

    def release(self) -> None:
        """Let it have everything, and the end of the stream if it came."""
        self._hold = False

    def wait_quiet(self, quiet: float = 0.3, timeout: float = 20) -> None:
        """Wait until the source has nothing more to send."""
        end, last, since = time.monotonic() + timeout, -1, time.monotonic()
        while time.monotonic() < end:
            if len(self.held) != last:
                last, since = len(self.held), time.monotonic()
            if last > 0 and time.monotonic() - since > quiet:
                return
            time.sleep(0.02)
        raise RuntimeError('the source does not stop sending')

    def close(self) -> None:
        self._closing = True
        self._thread.join(5)

    def _connect(self) -> socket.socket:
        kind, _, where = self._target.partition(':')
        if kind == 'unix':
            out = socket.socket(socket.AF_UNIX)
            out.connect(where)
        else:
            ip, _, port = where.partition(':')
            out = self._host.socket()
            out.connect((ip, int(port)))
        return out

    def _run(self) -> None:
        source = destination = None
        try:
            self._listener.settimeout(0.1)
            while source is None and not self._closing:
                try:
                    source, _ = self._listener.accept()
                except TimeoutError:
                    continue
            if source is None:
                return
            destination = self._connect()
            self._relay(source, destination)
        except OSError:
            pass
        finally:
            self.ended = True
            for sock in (source, destination, self._listener):
                if sock:
                    sock.close()

    def _relay(self, source: socket.socket,
               destination: socket.socket) -> None:
        back = bytearray()
        end_passed = False
        while not self._closing:
            if self.held and not self._hold:
                destination.sendall(self.held)
                self.forwarded += len(self.held)
                self.held.clear()
            if self.source_ended and not self.held and not end_passed:
                destination.shutdown(socket.SHUT_WR)
                end_passed = True
            waiting = [destination] + ([] if self.source_ended else [source])
            ready, _, _ = select.select(waiting, [], [], 0.02)
            if source in ready:
                try:
                    data = source.recv(1 << 18)
                except ConnectionError:
                    data = b''
                if data:
                    self.held += data
                else:
                    self.source_ended = True
            if destination in ready:
                data = destination.recv(4096)
                if not data:
                    return
                back += data
                self._pass_back(back, source)

    def _pass_back(self, back: bytearray, source: socket.socket) -> None:
        while len(back) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(back)
            if len(back) < _HEAD.size + length:
                return
            message = bytes(back[:_HEAD.size + length])
            del back[:len(message)]
            if kind in self._drop:
                self.dropped.append(kind)
            else:
                self.passed.append(kind)
                if not self.source_ended:
                    source.sendall(message)
