# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that never outlive the program that started them.

Each process is started through hostinit, which ends (and takes its child
along) when the pipe on its standard input closes. We hold the other end, so
the kernel closes it for us even when this program is killed.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from . import say


class Unfinished(Exception):
    """Something did not happen within its time."""


def until(what: str, condition, timeout: float, every: float = 0.01,
          tell: bool = True):
    """Call CONDITION until it gives something true, and return that. TELL
    what is waited for, if that is wanted at all (lib/say.py)."""
    begun = time.monotonic()
    while True:
        result = condition()
        if result:
            return result
        waited = time.monotonic() - begun
        if waited > timeout:
            raise Unfinished(f'not within {timeout:g} s: {what}')
        if tell and waited > 1:
            say.status(f'waits until {what} ({waited:.0f} s, at most '
                       f'{timeout:g})')
        time.sleep(every)


def start_time(pid: int) -> str | None:
    """A string that tells a process from a later one with the same pid."""
    try:
        stat = Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return None
    fields = stat.rpartition(')')[2].split()
    return None if fields[0] in 'ZX' else fields[19]


class Process:
    """One program, in a host or outside of all hosts."""

    everything: list['Process'] = []

    def __init__(self, hostinit: Path, where: list[str], command: list[str],
                 log: Path, env: dict[str, str] | None = None):
        self.command = [str(c) for c in command]
        self.log = log
        read_pid, write_pid = os.pipe()
        self._life, life = None, os.pipe()
        with open(log, 'wb') as out:
            self.wrapper = subprocess.Popen(
                [str(hostinit), *where, str(write_pid), *self.command],
                stdin=life[0], stdout=out, stderr=subprocess.STDOUT,
                pass_fds=[write_pid], start_new_session=True,
                env={**os.environ, **(env or {})})
        os.close(life[0])
        os.close(write_pid)
        self._life = life[1]
        with open(read_pid, encoding='ascii') as f:
            text = f.read()
        if not text:
            self.wrapper.wait()
            os.close(self._life)
            raise RuntimeError(f'{self.command[0]} did not start: '
                               f'{self.output()}')
        self.pid = int(text)
        self._born = start_time(self.pid)
        Process.everything.append(self)

    def pid_inside(self) -> int:
        """The pid that the process has in its own host."""
        status = Path(f'/proc/{self.pid}/status').read_text()
        return int(re.search(r'^NSpid:.*\s(\d+)$', status, re.M)[1])

    def output(self) -> str:
        return self.log.read_text(errors='replace').strip()

    def alive(self) -> bool:
        return self.wrapper.poll() is None

    def wait(self, timeout: float) -> int:
        return self.wrapper.wait(timeout)

    def signal(self, number: int) -> None:
        if self._born and start_time(self.pid) == self._born:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """At once, as if the power had gone."""
        self.signal(signal.SIGKILL)
        self.wrapper.wait(10)

    def close(self) -> None:
        if self._life is not None:
            os.close(self._life)
            self._life = None
        try:
            self.wrapper.wait(10)
        except subprocess.TimeoutExpired:
            self.wrapper.kill()
            self.wrapper.wait(10)

    def remains(self) -> bool:
        """Is it still there, although it should not be?"""
        return self._born is not None and start_time(self.pid) == self._born
