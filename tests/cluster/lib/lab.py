# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: hosts in namespaces of one machine, joined by a bridge.

A host is a process in network, mount, pid, uts and ipc namespaces of its own.
The switch is one more host with a bridge. Nothing is created in the machine's
own network, so two labs never meet and there is nothing to take down there.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from .proc import Process, start_time, until

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def can_make_hosts() -> str | None:
    """None, or why hosts cannot be made here."""
    if os.geteuid() != 0:
        return 'not root'
    probe = subprocess.run(
        ['unshare', '-n', '-m', '-u', '-i', '-p', '-f', '--mount-proc',
         'sh', '-c', 'ip link add q0 type bridge && '
                     'ip link add q1 type veth peer name q2 && '
                     'ip tuntap add q3 mode tap'],
        capture_output=True, text=True, check=False)
    return probe.stderr.strip() if probe.returncode else None


def end_by_signals() -> None:
    """Let SIGTERM and SIGHUP end the program the way Ctrl-C does, so that
    contexts are left and everything is taken down."""
    def leave(number: int, _frame) -> None:
        raise SystemExit(128 + number)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)


def use_user_namespace() -> None:
    """Not root, but perhaps we may have namespaces of our own: then run this
    program again, as root in there. Otherwise return."""
    if os.geteuid() == 0 or 'CSV_LAB_INSIDE' in os.environ:
        return
    inside = ['unshare', '--user', '--map-root-user', '--net', '--']
    test = ('import sys; sys.path.insert(0, sys.argv[1]); '
            'from lib.lab import can_make_hosts; '
            'sys.exit(can_make_hosts() is not None)')
    works = subprocess.run(
        [*inside, sys.executable, '-B', '-c', test,
         str(Path(__file__).resolve().parent.parent)],
        capture_output=True, check=False)
    if works.returncode == 0:
        os.environ['CSV_LAB_INSIDE'] = '1'
        os.execvp(inside[0], [*inside, sys.executable, '-B', *sys.argv])


class Host:
    """A namespace host, or (without a lab of hosts) this machine itself."""

    def __init__(self, lab: 'Lab', name: str, address: str | None):
        self.lab, self.name, self.address = lab, name, address
        self.forwarded: dict[int, tuple[str, int]] = {}
        self._life, self._where = None, ['guard']
        if lab.namespaces:
            life = os.pipe()
            self._holder = subprocess.Popen(
                [str(lab.hostinit), 'host', name], stdin=life[0],
                stdout=subprocess.PIPE, start_new_session=True, text=True)
            os.close(life[0])
            self._life = life[1]
            pid = self._holder.stdout.readline().strip()
            if not pid:
                raise RuntimeError(f'host {name} did not start')
            self.pid = int(pid)
            self._born = start_time(self.pid)
            self._where = ['enter', pid]
            self.run('ip', 'link', 'set', 'lo', 'up')

    def popen(self, name: str, *command) -> Process:
        """Start a program in here; its output is in the log NAME."""
        log = self.lab.logs / f'{name}.log'
        return Process(self.lab.hostinit, self._where, list(command), log)

    def run(self, *command, timeout: float = 30) -> str:
        """Run a short program in here and give its output."""
        done = subprocess.run(
            [str(self.lab.hostinit), *self._where, '-',
             *[str(c) for c in command]], stdin=self.lab.life,
            capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise RuntimeError(f'{self.name}: {" ".join(map(str, command))}: '
                               f'{done.stderr.strip()}')
        return done.stdout

    def socket(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this host's network, to use from any thread."""
        if self._life is None:
            return socket.socket(socket.AF_INET, kind)
        made: list = []

        def make() -> None:
            fd = os.open(f'/proc/{self.pid}/ns/net', os.O_RDONLY)
            try:
                if _libc.setns(fd, CLONE_NEWNET):
                    made.append(OSError(ctypes.get_errno(), 'setns'))
                else:
                    made.append(socket.socket(socket.AF_INET, kind))
            finally:
                os.close(fd)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def power_off(self) -> None:
        """Everything in here dies at once."""
        if self._life is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._holder.wait(10)

    def close(self) -> None:
        if self._life is not None:
            os.close(self._life)
            self._life = None
            try:
                self._holder.wait(10)
            except subprocess.TimeoutExpired:
                os.kill(self.pid, signal.SIGKILL)
                self._holder.wait(10)
            self._holder.stdout.close()

    def remains(self) -> bool:
        return (hasattr(self, '_born') and self._born is not None
                and start_time(self.pid) == self._born)


class Lab:
    """Use as a context: what was started inside is gone afterwards.

    BASE gets a folder for this run, with the programs' logs and the shared
    storage. It goes as well, unless keep_logs is set.
    """

    def __init__(self, hostinit: Path, base: Path, namespaces: bool = True):
        self.hostinit, self.namespaces = hostinit, namespaces
        self.keep_logs = False
        self.hosts: list[Host] = []
        self._closers: list = []
        base.mkdir(parents=True, exist_ok=True)
        self._sweep(base)
        self.work = Path(tempfile.mkdtemp(prefix='run-', dir=base))
        # Socket paths must be short, so they have a folder of their own.
        self.sockets = Path(tempfile.mkdtemp(prefix='csv-'))
        self.logs, self.shared = self.work / 'logs', self.work / 'shared'
        self.logs.mkdir()
        self.shared.mkdir()             # what all hosts see: the storage
        (self.work / 'owner').write_text(
            f'{os.getpid()} {start_time(os.getpid())} {self.sockets}')
        self.life, self._life = os.pipe()
        self._switch: Host | None = None
        self._ports = 0

    @staticmethod
    def _sweep(base: Path) -> None:
        """Remove the files of runs that were killed."""
        for owner in base.glob('run-*/owner'):
            try:
                pid, born, sockets = owner.read_text().split()
            except (OSError, ValueError):
                continue
            if start_time(int(pid)) != born:
                shutil.rmtree(sockets, ignore_errors=True)
                shutil.rmtree(owner.parent, ignore_errors=True)

    def __enter__(self) -> 'Lab':
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def on_close(self, action) -> None:
        self._closers.append(action)

    def host(self, name: str, address: str | None = None) -> Host:
        """A host with ADDRESS (like 10.77.0.1/24) on its bridge br0."""
        host = Host(self, name, address and address.partition('/')[0])
        self.hosts.append(host)
        if not self.namespaces or not address:
            return host
        if not self._switch:
            self._switch = Host(self, 'switch', None)
            self.hosts.append(self._switch)
            self._bridge(self._switch)
        self._ports += 1
        port = f'port{self._ports}'
        # The pid in "netns PID" is one of our own pid namespace: so enter the
        # switch's network only.
        subprocess.run(
            ['nsenter', '-t', str(self._switch.pid), '-n', 'ip', 'link', 'add',
             port, 'type', 'veth', 'peer', 'name', 'lan0', 'netns',
             str(host.pid)], check=True)
        self._switch.run('ip', 'link', 'set', port, 'master', 'br0', 'up')
        self._bridge(host)
        host.run('ip', 'link', 'set', 'lan0', 'master', 'br0', 'up')
        host.run('ip', 'addr', 'add', address, 'dev', 'br0')
        return host

    @staticmethod
    def _bridge(host: Host) -> None:
        host.run('ip', 'link', 'add', 'br0', 'type', 'bridge', 'forward_delay',
                 '0', 'mcast_snooping', '0')
        host.run('ip', 'link', 'set', 'br0', 'up')

    @staticmethod
    def tap(host: Host, name: str) -> None:
        """A tap for a guest on the host's bridge."""
        if name not in host.run('ls', '/proc/sys/net/ipv4/conf').split():
            host.run('ip', 'tuntap', 'add', name, 'mode', 'tap')
            host.run('ip', 'link', 'set', name, 'master', 'br0', 'up')

    def close(self) -> None:
        """Take everything down, and make sure that it is gone."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for action in reversed(self._closers):
            try:
                action()
            except Exception as why:        # the rest must go all the same
                print(f'while cleaning up: {why}')
        processes, Process.everything = Process.everything, []
        for process in processes:
            process.close()
        for host in reversed(self.hosts):
            host.close()
        for fd in (self.life, self._life):
            os.close(fd)
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.shared, ignore_errors=True)
        if self.keep_logs:
            (self.work / 'owner').unlink()
        else:
            shutil.rmtree(self.work, ignore_errors=True)
        left = processes + self.hosts
        until('all processes of the lab are gone',
              lambda: not any(one.remains() for one in left), 60)
        self.hosts = []
