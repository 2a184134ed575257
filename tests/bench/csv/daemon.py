# SPDX-License-Identifier: GPL-2.0-or-later
"""qemu-storage-daemon with a QMP connection, and fio through its NBD server."""

import json
import socket
import subprocess
import time

from images import CPUS, cpu_of, on


class Daemon:
    """
    A daemon in @folder.  Its end closes all images; `with` waits for that.
    """
    def __init__(self, build, folder, name, *args, cpus=CPUS):
        self.sockets = [folder / f'{name}.qmp', folder / f'{name}.nbd']
        for path in self.sockets:
            path.unlink(missing_ok=True)
        self.nbd = self.sockets[1]
        self.proc = subprocess.Popen(
            [str(build / 'storage-daemon/qemu-storage-daemon'),
             '--chardev', f'socket,id=qmp,path={self.sockets[0]},server=on,'
             'wait=off', '--monitor', 'chardev=qmp', *map(str, args)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, preexec_fn=on(*cpus))
        self.qmp = socket.socket(socket.AF_UNIX)
        try:
            self.connect()
        except Exception:
            self.__exit__()
            raise

    def connect(self):
        end = time.monotonic() + 30
        while True:
            try:
                self.qmp.connect(str(self.sockets[0]))
                break
            except OSError:
                if self.proc.poll() is not None:
                    raise RuntimeError('qemu-storage-daemon: ' +
                                       self.proc.stderr.read()[-300:])
                if time.monotonic() > end:
                    raise
                time.sleep(0.002)
        self.qmp.settimeout(120)
        self.lines = self.qmp.makefile('r')
        self.lines.readline()
        self.command('qmp_capabilities')

    def message(self):
        line = self.lines.readline()
        if not line:
            raise RuntimeError('qemu-storage-daemon is gone')
        return json.loads(line)

    def command(self, name, **args):
        self.qmp.sendall(json.dumps({'execute': name,
                                     'arguments': args}).encode() + b'\n')
        while True:
            msg = self.message()
            if 'error' in msg:
                raise RuntimeError(f'{name}: {msg["error"]["desc"]}')
            if 'return' in msg:
                return msg['return']

    def create(self, **options):
        """blockdev-create, to its end."""
        self.command('blockdev-create', **{'job-id': 'make'}, options=options)
        while True:
            msg = self.message()
            if msg.get('event') == 'JOB_STATUS_CHANGE' and \
                    msg['data']['status'] == 'concluded':
                break
        jobs = self.command('query-jobs')
        self.command('job-dismiss', id='make')
        if 'error' in jobs[0]:
            raise RuntimeError(f'blockdev-create: {jobs[0]["error"]}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.qmp.close()
        if self.proc.poll() is None:
            self.proc.terminate()
        try:
            self.proc.wait(60)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc.stderr.close()
        for path in self.sockets:
            path.unlink(missing_ok=True)


def fio(images, medium, node, opts):
    """One measurement by fio over NBD, in the form of bench-csv-block's."""
    folder = images.folders[medium]
    with Daemon(images.build, folder, 'nbd',
                '--blockdev', json.dumps({**node, 'node-name': 'disk'}),
                '--nbd-server',
                f'addr.type=unix,addr.path={folder / "nbd.nbd"}',
                '--export', 'type=nbd,id=disk,node-name=disk,writable=on',
                cpus=CPUS[-1:]) as daemon:
        cpu = cpu_of(daemon.proc.pid)
        found = images.run(
            'fio', '--name=x', '--output-format=json', '--ioengine=nbd',
            f'--uri=nbd+unix:///disk?socket={daemon.nbd}', *opts,
            cpus=CPUS[:1])
        cpu = cpu_of(daemon.proc.pid) - cpu
    # messages of the engine come first
    job = json.loads(found[found.index('{'):])['jobs'][0]
    if job['error']:
        raise RuntimeError(f'fio: error {job["error"]}')
    ops = job['read']['total_ios'] + job['write']['total_ios']
    return {'ops': ops, 'cpu_us': cpu * 1e6 / max(ops, 1),
            'seconds': max(job['read']['runtime'],
                           job['write']['runtime']) / 1000,
            'cost_by': 'cpu time'}
