# SPDX-License-Identifier: GPL-2.0-or-later
"""A client for an NBD server on a Unix socket, with many requests in flight."""

import socket
import struct
import threading
import time

from .model import SECTOR, fill

OPTION = struct.Struct('>QII')
REPLY = struct.Struct('>QIII')
REQUEST = struct.Struct('>IHHQQI')
SIMPLE = struct.Struct('>IIQ')
READ, WRITE, DISC, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6
FLAG_FUA, FLAG_NO_HOLE = 1, 2
MULTI_CONN = 1 << 8
KINDS = {'read': READ, 'write': WRITE, 'flush': FLUSH, 'trim': TRIM,
         'zero': ZEROES}


class Gone(Exception):
    """The server closed the connection."""


def receive(sock, count):
    parts = []
    while count:
        try:
            part = sock.recv(count)
        except OSError as why:
            raise Gone(str(why)) from why
        if not part:
            raise Gone('closed')
        parts.append(part)
        count -= len(part)
    return b''.join(parts)


def send(sock, data):
    try:
        sock.sendall(data)
    except OSError as why:
        raise Gone(str(why)) from why


def connect(path, export, timeout=60):
    """A socket in transmission phase, the export's size and flags."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(path)
    magic, option, flags = struct.unpack('>QQH', receive(sock, 18))
    if magic != 0x4e42444d41474943 or option != 0x49484156454f5054:
        raise Gone('not an NBD server')
    send(sock, struct.pack('>I', flags & 3))
    name = export.encode()
    data = struct.pack('>I', len(name)) + name + struct.pack('>H', 0)
    send(sock, OPTION.pack(option, 7, len(data)) + data)       # NBD_OPT_GO
    size = flags = 0
    while True:
        _, _, kind, length = REPLY.unpack(receive(sock, REPLY.size))
        data = receive(sock, length)
        if kind == 3 and data[:2] == b'\0\0':       # NBD_REP_INFO: the export
            size, flags = struct.unpack('>QH', data[2:12])
        elif kind == 1:                             # NBD_REP_ACK
            return sock, size, flags
        elif kind & 0x80000000:
            raise Gone(f'no export {export}: {data.decode(errors="replace")}')


class Client:
    """Sends the requests of a model and tells it of the replies."""

    def __init__(self, path, export, model, connections=2):
        self.model = model
        self.cond = threading.Condition()
        self.cookie = 0
        self.pending = {}
        self.wrong = []         # what reads and replies should not have said
        self.dead = False
        self.acked = 0
        self.socks = []
        self.threads = []
        sock, self.size, flags = connect(path, export)
        self.socks.append(sock)
        if flags & MULTI_CONN:
            for _ in range(connections - 1):
                self.socks.append(connect(path, export)[0])
        for sock in self.socks:
            thread = threading.Thread(target=self._receive, args=[sock],
                                      daemon=True)
            thread.start()
            self.threads.append(thread)

    def _receive(self, sock):
        try:
            while True:
                _, error, cookie = SIMPLE.unpack(receive(sock, SIMPLE.size))
                with self.cond:
                    req = self.pending[cookie]
                data = b''
                if req.kind == 'read' and not error:
                    data = receive(sock, req.count * SECTOR)
                with self.cond:
                    self._done(cookie, req, error, data)
        except Gone:
            with self.cond:
                self.dead = True
                self.cond.notify_all()

    def _done(self, cookie, req, error, data):
        del self.pending[cookie]
        if error:
            self.wrong.append(f'{req}: error {error}')
        else:
            if data:
                self.wrong += self.model.check_read(req.first, data)
            self.model.ack(req)
            self.acked += 1
        self.cond.notify_all()

    def send(self, req, rng):
        """Send a request; false when the server is gone."""
        flags = FLAG_FUA if req.fua else 0
        if req.kind == 'zero' and rng.random() < 0.5:
            flags |= FLAG_NO_HOLE
        data = b''
        if req.kind == 'write':
            data = fill(self.model.disk, req.first, req.count, req.value[1])
        with self.cond:
            if self.dead:
                return False
            self.cookie += 1
            self.pending[self.cookie] = req
            self.model.issue(req)
            header = REQUEST.pack(0x25609513, flags, KINDS[req.kind],
                                  self.cookie, req.first * SECTOR,
                                  req.count * SECTOR)
        try:
            rng.choice(self.socks).sendall(header + data)
        except OSError:
            with self.cond:
                self.dead = True
            return False
        return True

    def run(self, workload, requests, depth, rng, timeout=120):
        """Keep DEPTH in flight until REQUESTS are acknowledged; false when
        the server went away meanwhile."""
        end = time.monotonic() + timeout
        with self.cond:
            goal = self.acked + requests
        while True:
            with self.cond:
                while len(self.pending) >= depth and not self.dead:
                    if not self.cond.wait(1) and time.monotonic() > end:
                        raise TimeoutError(
                            f'no reply: {[str(r) for r in self.pending.values()]}')
                if self.dead:
                    return False
                if self.acked >= goal or self.wrong:
                    return True
                req = workload.next()
            if req is None:
                with self.cond:
                    self.cond.wait(0.01)
            elif not self.send(req, rng):
                return False

    def drain(self, timeout=60):
        """Wait for all replies; false when the server went away."""
        end = time.monotonic() + timeout
        with self.cond:
            while self.pending and not self.dead:
                if not self.cond.wait(1) and time.monotonic() > end:
                    raise TimeoutError(
                        f'no reply: {[str(r) for r in self.pending.values()]}')
            return not self.dead

    def flush(self, rng):
        return self.send(self.model.make('flush'), rng) and self.drain()

    def close(self):
        for sock in self.socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(5)
        for sock in self.socks:
            sock.close()
