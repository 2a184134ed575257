# SPDX-License-Identifier: GPL-2.0-or-later
"""A QMP connection: commands from any thread, events with time stamps."""

import json
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path


class QmpError(Exception):
    """The command was refused; the text is QEMU's."""

    def __init__(self, error: dict):
        super().__init__(error.get('desc', str(error)))
        self.kind = error.get('class')


class QmpGone(Exception):
    """QEMU closed the connection, or does not answer."""


@dataclass
class Event:
    name: str
    data: dict
    at: float                   # CLOCK_MONOTONIC in seconds, when it came in


@dataclass
class _Call:
    done: threading.Event = field(default_factory=threading.Event)
    reply: dict | None = None


class Qmp:
    def __init__(self, path: Path, alive, timeout: float = 60):
        """Connect to the socket at PATH as soon as it is there, as long as
        ALIVE() says that there is a program to create it."""
        end = time.monotonic() + timeout
        while True:
            self._sock = socket.socket(socket.AF_UNIX)
            try:
                self._sock.connect(str(path))
                break
            except OSError as why:
                self._sock.close()
                if not alive() or time.monotonic() > end:
                    raise QmpGone(f'no monitor at {path}: {why}') from why
                time.sleep(0.01)
        self._file = self._sock.makefile('rb')
        self._lock = threading.Lock()
        self._calls: dict[str, _Call] = {}
        self._count = 0
        self._news = threading.Condition()
        self.events: list[Event] = []
        self.gone = False
        try:
            self._file.readline()               # the greeting
        except OSError as why:
            raise QmpGone(f'{path}: {why}') from why
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.cmd('qmp_capabilities')

    def _read(self) -> None:
        try:
            for line in self._file:
                message = json.loads(line)
                if 'event' in message:
                    event = Event(message['event'], message.get('data', {}),
                                  time.monotonic())
                    with self._news:
                        self.events.append(event)
                        self._news.notify_all()
                elif call := self._calls.pop(message.get('id'), None):
                    call.reply = message
                    call.done.set()
        except (OSError, ValueError):
            pass
        self.gone = True
        with self._news:
            self._news.notify_all()
        for call in list(self._calls.values()):
            call.done.set()

    def cmd(self, command: str, /, *, timeout: float = 60, **arguments):
        """Run a command; '_' in argument names stands for '-'."""
        message = {'execute': command}
        if arguments:
            message['arguments'] = {k.replace('_', '-'): v
                                    for k, v in arguments.items()}
        call = _Call()
        with self._lock:
            self._count += 1
            message['id'] = f'{os.getpid()}-{self._count}'
            self._calls[message['id']] = call
            try:
                self._sock.sendall(json.dumps(message).encode() + b'\n')
            except OSError as why:
                raise QmpGone(f'{command}: {why}') from why
        if self.gone and not call.done.is_set():
            raise QmpGone(f'{command}: the connection is closed')
        if not call.done.wait(timeout):
            raise QmpGone(f'{command}: no answer in {timeout:g} s')
        if call.reply is None:
            raise QmpGone(f'{command}: the connection closed')
        if 'error' in call.reply:
            raise QmpError(call.reply['error'])
        return call.reply['return']

    def find(self, name: str, after: float = 0, **data) -> Event | None:
        """The first event NAME with this DATA that came in later."""
        for event in list(self.events):
            if (event.name == name and event.at >= after
                    and data.items() <= event.data.items()):
                return event
        return None

    def wait(self, name: str, timeout: float, after: float = 0,
             **data) -> Event:
        end = time.monotonic() + timeout
        with self._news:
            while True:
                event = self.find(name, after, **data)
                if event:
                    return event
                left = end - time.monotonic()
                if self.gone or left <= 0:
                    why = 'QEMU is gone' if self.gone else f'{timeout:g} s'
                    raise QmpGone(f'no event {name} {data or ""}: {why}')
                self._news.wait(left)

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()
