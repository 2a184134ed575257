# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's tools on csv volumes, and how a stress test reports."""

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
T0 = time.monotonic()
LEFT_BY_THE_KILLED = re.compile(
    r'Leaked (member record \d+: the member is dead'
    r"|disk record \d+: the (creation|deletion) of disk '.*' was interrupted)")


class Failed(Exception):
    """What a test found wrong."""


class Skip(Exception):
    """Why a test cannot run here."""


def say(text):
    print(f'# [{time.monotonic() - T0:4.0f}s] {text}', flush=True)


def must(condition, *lines):
    if not condition:
        raise Failed('\n'.join(str(line) for line in lines))


class Tools:
    """The programs of a build folder."""

    def __init__(self, build):
        self.img = os.path.join(build, 'qemu-img')
        self.io = os.path.join(build, 'qemu-io')
        self.daemon = os.path.join(build, 'storage-daemon',
                                   'qemu-storage-daemon')
        for path in (self.img, self.io, self.daemon):
            if not os.access(path, os.X_OK):
                raise Skip(f'{os.path.basename(path)} was not built')
        self.can_check = True

    @staticmethod
    def run(*cmd, timeout=120):
        return subprocess.run([str(c) for c in cmd], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              errors='replace', timeout=timeout, check=False)

    def ok(self, *cmd, timeout=120):
        run = self.run(*cmd, timeout=timeout)
        must(run.returncode == 0,
             f'{" ".join(str(c) for c in cmd)}: status {run.returncode}',
             run.stdout.strip())
        return run.stdout

    def check(self, volume, disk=None, killed=False):
        """qemu-img check finds nothing; without DISK, of the whole volume.
        KILLED: but for the records of members that were killed."""
        if not self.can_check:
            return
        options = f'driver=csv,file.filename={volume}'
        if disk:
            options += f',disk={disk}'
        run = self.run(self.img, 'check', '--output=json', '--image-opts',
                       options)
        if run.returncode == 63 or 'does not support checks' in run.stdout:
            self.can_check = False
            say('this build cannot check csv disks: left out')
            return
        lines = run.stdout.partition('{')[0].strip().splitlines()
        if killed and run.returncode == 3 and lines and all(
                LEFT_BY_THE_KILLED.match(line) for line in lines):
            # who meets it may clear it away; then there must be nothing
            self.run(self.img, 'check', '-q', '-r', 'leaks', '--image-opts',
                     options)
            self.check(volume, disk)
            return
        must(run.returncode == 0, f'qemu-img check --image-opts {options}:'
             f' status {run.returncode}', run.stdout.strip())


class Daemon:
    """A storage daemon that exports disks of one volume over NBD."""

    def __init__(self, tools, folder, volume, disks, *, file_options='',
                 options='', iothread=False, log=None, mountpoint=None):
        """LOG: the file where blklogwrites logs what reaches the volume.
        MOUNTPOINT: export the one disk as this file instead of over NBD."""
        self.folder = tempfile.mkdtemp(prefix='csv-stress-')
        self.nbd = os.path.join(self.folder, 'nbd')
        self.qmp_path = os.path.join(self.folder, 'qmp')
        pid = os.path.join(self.folder, 'pid')
        self.log = open(os.path.join(folder, 'daemon.log'), 'ab')
        cmd = [tools.daemon, '--pidfile', pid,
               '--chardev', f'socket,id=q,path={self.qmp_path},server=on,'
               'wait=off', '--monitor', 'chardev=q',
               '--nbd-server', f'addr.type=unix,addr.path={self.nbd},'
               'max-connections=0',
               '--object', 'iothread,id=t0', '--object', 'iothread,id=t1']
        cmd += ['--blockdev', 'driver=file,discard=unmap,node-name=' +
                ('unlogged' if log else 'vol') +
                f',filename={volume}{file_options}']
        if log:
            cmd += ['--blockdev', 'driver=blklogwrites,node-name=vol,'
                    f'discard=unmap,file=unlogged,log.driver=file,'
                    f'log.filename={log}']
        for number, disk in enumerate(disks):
            cmd += ['--blockdev', f'driver=csv,node-name=d{number},file=vol,'
                    f'discard=unmap,disk={disk}{options}']
            cmd += ['--export', f'id=e{number},node-name=d{number},'
                    'writable=on,' +
                    (f'type=fuse,mountpoint={mountpoint}' if mountpoint else
                     f'type=nbd,name=d{number}') +
                    (f',iothread=t{number % 2}' if iothread else '')]
        self.cmd = cmd
        self.qmp_sock = None
        self.proc = subprocess.Popen(cmd, stdin=subprocess.DEVNULL,
                                     stdout=self.log, stderr=self.log)
        self.pid_file = pid

    def wait_ready(self, timeout=60):
        end = time.monotonic() + timeout
        while not os.path.exists(self.pid_file):
            status = self.proc.poll()
            if status is not None:
                self.log.flush()
                with open(self.log.name, 'rb') as log:
                    last = log.read()[-2000:].decode(errors='replace')
                raise Failed(f'the storage daemon ended: status {status}\n'
                             f'{last.strip()}\n{" ".join(self.cmd)}')
            if time.monotonic() > end:
                raise Failed(f'the storage daemon was not ready after'
                             f' {timeout} s\n{" ".join(self.cmd)}')
            time.sleep(0.003)
        return self

    def qmp(self, command, **arguments):
        """Run a command; the return value, or Failed with QEMU's text."""
        if self.qmp_sock is None:
            self.qmp_sock = socket.socket(socket.AF_UNIX)
            # before anything that fails when the daemon is killed
            self.qmp_file = self.qmp_sock.makefile('rwb')
            self.qmp_sock.settimeout(60)
            self.qmp_sock.connect(self.qmp_path)
            self.qmp_file.readline()
            self.qmp('qmp_capabilities')
        text = json.dumps({'execute': command, 'arguments': arguments})
        try:
            self.qmp_file.write(text.encode() + b'\n')
            self.qmp_file.flush()
            while True:
                line = self.qmp_file.readline()
                if not line:
                    raise ConnectionError('closed')
                reply = json.loads(line)
                if 'return' in reply:
                    return reply['return']
                if 'error' in reply:
                    raise Failed(f'{command}: {reply["error"]["desc"]}')
        except OSError as why:
            raise ConnectionError(str(why)) from why

    def kill(self):
        self.proc.kill()
        self.end()

    def quit(self, timeout=60):
        """End it as it should; it writes everything back."""
        self.proc.send_signal(signal.SIGTERM)
        try:
            status = self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f'the storage daemon did not end in {timeout} s') \
                from None
        self.end()
        if status != 0:
            with open(self.log.name, 'rb') as log:
                last = log.read()[-2000:].decode(errors='replace')
            raise Failed(f'the storage daemon ended with status {status}\n'
                         f'{last.strip()}')

    def end(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        if self.qmp_sock:
            # What could not be sent to a daemon that was killed stays in the
            # buffer, and close() would try again.
            with contextlib.suppress(OSError):
                self.qmp_file.close()
            self.qmp_sock.close()
            self.qmp_sock = None
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def copy_sparse(source, target):
    """Copy a file without its holes."""
    with open(source, 'rb') as src, open(target, 'wb') as dst:
        size = os.fstat(src.fileno()).st_size
        os.ftruncate(dst.fileno(), size)
        at = 0
        while at < size:
            try:
                at = os.lseek(src.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(src.fileno(), at, os.SEEK_HOLE)
            while at < end:
                n = os.copy_file_range(src.fileno(), dst.fileno(), end - at,
                                       at, at)
                if not n:
                    return
                at += n


def terminate(*_):
    raise KeyboardInterrupt


class Program:
    """A test program: its options, its folder, its TAP lines."""

    def __init__(self, doc, short, full):
        """SHORT and FULL: defaults of options, by name."""
        parser = argparse.ArgumentParser(description=doc)
        parser.add_argument('--build', default=os.path.join(TOP, 'build',
                                                            'qemu'))
        parser.add_argument('--full', action='store_true',
                            help='as long as make check-stress runs it')
        parser.add_argument('--seed', type=int, default=1)
        parser.add_argument('--dir', help='where volumes are put (default:'
                            ' build/stress)')
        for option, value in short.items():
            parser.add_argument(f'--{option}', type=type(value),
                                help=f'default {value}, with --full'
                                f' {full[option]}')
        parser.add_argument('--only', help='only the test of this name')
        self.args = parser.parse_args()
        for option, value in (full if self.args.full else short).items():
            if getattr(self.args, option) is None:
                setattr(self.args, option, value)
        self.options = list(short)
        self.name = os.path.basename(sys.argv[0])
        base = self.args.dir or os.path.join(
            os.path.dirname(os.path.abspath(self.args.build)), 'stress')
        self.folder = os.path.join(base, f'{self.name}.{os.getpid()}')
        os.makedirs(self.folder)
        self.number = self.failed = 0
        self.report = {}
        signal.signal(signal.SIGTERM, terminate)
        self.tools = None

    def command(self, **more):
        words = [os.path.relpath(sys.argv[0]), '--build', self.args.build,
                 '--seed', self.args.seed]
        for option in self.options:
            words += [f'--{option}', more.pop(option,
                                              getattr(self.args, option))]
        for option, value in more.items():
            words += [f'--{option}', value]
        return shlex.join(str(w) for w in words)

    def keep(self, *paths):
        """Keep the files of a failure; where they are."""
        base = os.path.join(os.path.dirname(self.folder), 'failed')
        target = os.path.join(base, f'{self.name}-{self.args.seed}-'
                              f'{os.getpid()}-{self.number}')
        os.makedirs(target, exist_ok=True)
        for path in paths:
            if os.path.isfile(path):
                copy_sparse(path, os.path.join(target,
                                               os.path.basename(path)))
        return target

    def test(self, title, function, *args, **repeat):
        """One TAP line; REPEAT are the options that repeat it."""
        if self.args.only and self.args.only != title:
            return
        self.number += 1
        start = time.monotonic()
        try:
            note = function(*args)
        except Skip as why:
            print(f'ok {self.number} - {title} # SKIP {why}', flush=True)
            return
        except (Failed, TimeoutError, OSError, subprocess.SubprocessError,
                AssertionError, KeyError, ValueError) as why:
            self.failed += 1
            lines = str(why).splitlines()
            if not isinstance(why, Failed):
                lines += traceback.format_exc().splitlines()
            for line in lines[:60]:
                print(f'# {line}')
            print(f'# repeat: {self.command(only=title, **repeat)}')
            print(f'not ok {self.number} - {title}', flush=True)
            return
        took = time.monotonic() - start
        say(f'{title}: {note or "done"} ({took:.1f} s)')
        print(f'ok {self.number} - {title}', flush=True)

    def main(self, body):
        """Call BODY(program); the exit status."""
        try:
            try:
                self.tools = Tools(os.path.abspath(self.args.build))
                body(self)
            except Skip as why:
                print(f'# {why}')
                return 77
            print(f'1..{self.number}', flush=True)
            if self.report:
                path = os.path.join(os.path.dirname(self.folder),
                                    f'{self.name}.json')
                with open(path, 'w', encoding='utf-8') as f:
                    json.dump(self.report, f, indent=1)
                    f.write('\n')
            return 1 if self.failed else 0
        except KeyboardInterrupt:
            print('# interrupted')
            return 130
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
