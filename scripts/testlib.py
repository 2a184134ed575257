# SPDX-License-Identifier: GPL-2.0-or-later
"""Running test programs and counting what they say (for scripts/check*)."""

import concurrent.futures
import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get('CSV_BUILD',
                                       os.path.join(TOP, 'build')))
T0 = int(os.environ.get('CSV_T0', time.time()))
TAP = re.compile(r'^(ok|not ok)\b *(\d+)? *-? *([^#]*)'
                 r'(?:# *(SKIP)\S*:? *(.*))?', re.I)
SKIP = 77
KILL_AFTER = 30


def say(text):
    print(f'[{int(time.time()) - T0:3d}s] {text}', flush=True)


IOTEST = re.compile(r'\b(pass|fail|not run) +\[[\d:]+\] \[[\d:]+\] +(?:[\d.]+s|\.\.\.)'
                    r'(?: +\(last: [\d.]+s\))? *(.*)$')
# an iotest that is not about this format or protocol at all
NOT_FOR = re.compile(r'not suitable for this (image format|image protocol|cache'
                     r' mode|aio mode|OS)')


class Job:
    """One test program: how to run it, and afterwards how it went."""

    def __init__(self, suite, name, cmd, *, env=None, cwd=None, timeout=600,
                 tap=True, alone=False, iotest=False):
        self.suite = suite
        self.name = name
        self.cmd = cmd
        self.env = env or {}
        self.cwd = cwd
        self.timeout = timeout
        self.tap = tap
        self.alone = alone
        self.iotest = iotest
        self.upstream = False       # a test of QEMU's own
        self.listed = False         # by name, so it has something to test
        self.seconds = 0.0
        self.log = None
        self.reset()

    def reset(self):
        self.passed = []
        self.failed = []
        self.skipped = []           # (name, reason)
        self.foreign = False        # has nothing to test here

    def count_iotest(self, status, output):
        """What tests/qemu-iotests/check prints about its one test."""
        for line in re.split(r'[\r\n]', output):
            match = IOTEST.search(line)
            if not match:
                continue
            if match[1] == 'pass':
                self.passed.append(self.name)
            elif match[1] == 'fail':
                self.failed.append(self.name)
            elif NOT_FOR.search(match[2]) and self.listed:
                self.failed.append(f'{self.name}: {match[2]}')
            elif NOT_FOR.search(match[2]):
                self.foreign = True
            else:
                self.skipped.append((self.name, match[2] or 'not run'))
            return
        self.failed.append(f'{self.name}: no result (status {status})')

    def count(self, status, output):
        """Turn exit status and output into results."""
        plan = None
        seen = 0
        if self.tap:
            for line in output.splitlines():
                match = re.match(r'^1\.\.(\d+)\s*(?:# *SKIP\S* *(.*))?$',
                                 line, re.I)
                if match:
                    plan = int(match[1])
                    if plan == 0:
                        self.skipped.append((self.name, match[2] or
                                             'the program skips itself'))
                        return
                    continue
                match = TAP.match(line)
                if not match:
                    continue
                seen += 1
                name = match[3].strip() or f'{self.name} {seen}'
                if match[4]:
                    reason = match[5] or 'no reason given'
                    # what left-out.list names is counted by its reason there
                    if not reason.startswith('by request'):
                        self.skipped.append((name, reason))
                elif match[1].lower() == 'ok':
                    self.passed.append(name)
                else:
                    self.failed.append(name)
        if status == SKIP and not self.failed:
            last = [l for l in output.splitlines() if l.strip()]
            reason = last[-1].strip() if last else 'no reason given'
            self.skipped.append((self.name, re.sub(r'^#\s*', '', reason)))
        elif status is None:
            self.failed.append(f'{self.name}: no end after {self.timeout} s')
        elif status < 0:
            self.failed.append(f'{self.name}: ended by signal {-status}')
        elif status > 0 and not self.failed:
            self.failed.append(f'{self.name}: exit status {status}')
        elif plan is not None and seen != plan and not self.failed:
            self.failed.append(f'{self.name}: {seen} of {plan} tests ran')
        elif not seen and status == 0:
            self.passed.append(self.name)

    def title(self):
        if self.foreign:
            return 'not for this format'
        text = f'{len(self.passed)} passed'
        if self.failed:
            text += f', {len(self.failed)} FAILED'
        if self.skipped:
            text += f', {len(self.skipped)} skipped'
        return text


class Runner:
    def __init__(self, logs, slow=1.0):
        self.logs = logs
        self.slow = slow
        self.running = {}
        self.lock = threading.Lock()
        self.stopping = False

    def stop(self):
        """End all that runs: first politely, so that it can clean up."""
        self.stopping = True
        with self.lock:
            procs = list(self.running)
        for sig, wait in ((signal.SIGTERM, KILL_AFTER), (signal.SIGKILL, 5)):
            for proc in procs:
                kill_group(proc, sig)
            end = time.monotonic() + wait
            while time.monotonic() < end and \
                    any(p.poll() is None for p in procs):
                time.sleep(0.1)

    def run(self, job):
        if self.stopping:
            return job
        folder = os.path.join(self.logs, job.suite)
        os.makedirs(folder, exist_ok=True)
        job.log = os.path.join(folder, job.name.replace('/', '_') + '.log')
        start = time.monotonic()
        with open(job.log, 'wb') as log:
            log.write(f'# {" ".join(job.cmd)[:2000]}\n'.encode())
            log.flush()
            with subprocess.Popen(job.cmd, cwd=job.cwd,
                                  env=dict(os.environ, **job.env),
                                  stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=subprocess.STDOUT,
                                  start_new_session=True) as proc:
                with self.lock:
                    self.running[proc] = job
                try:
                    status = proc.wait(job.timeout * self.slow)
                except subprocess.TimeoutExpired:
                    status = None
                    kill_group(proc, signal.SIGTERM)
                    try:
                        proc.wait(KILL_AFTER)
                    except subprocess.TimeoutExpired:
                        pass
                # also what a test has left behind in its group
                kill_group(proc, signal.SIGKILL)
                proc.wait()
                with self.lock:
                    del self.running[proc]
        job.seconds += time.monotonic() - start
        with open(job.log, encoding='utf-8', errors='replace') as log:
            output = log.read().partition('\n')[2]
        if job.iotest and status is not None:
            job.count_iotest(status, output)
        else:
            job.count(status, output)
        return job

    def run_all(self, jobs, workers):
        """Run jobs, those that want to be alone at the end."""
        for group, width in (([j for j in jobs if not j.alone], workers),
                             ([j for j in jobs if j.alone], 1)):
            with concurrent.futures.ThreadPoolExecutor(width) as pool:
                futures = [pool.submit(self.run, job) for job in group]
                try:
                    for future in concurrent.futures.as_completed(futures):
                        yield future.result()
                except BaseException:
                    for future in futures:
                        future.cancel()
                    self.stop()
                    raise


def again(runner, done):
    """Run those of QEMU's own tests that failed once more, one at a time.

    Some of them race with themselves on a busy machine: 223 starts a server
    while the one before is still ending. What passes on its own is told, and
    counts as passed; our tests get no second try.
    """
    late = []
    for job in [j for j in done if j.failed and j.upstream]:
        say(f'  once more, alone: {job.suite} {job.name}')
        os.replace(job.log, job.log + '.1')
        job.reset()
        runner.run(job)
        if not job.failed:
            late.append(f'{job.suite} {job.name}')
    return late


def kill_group(proc, sig):
    try:
        os.killpg(proc.pid, sig)
    except (ProcessLookupError, PermissionError):
        pass


def qemu_tests(build):
    """QEMU's own tests by name, as meson knows them."""
    with open(os.path.join(build, 'meson-info', 'intro-tests.json'),
              encoding='utf-8') as f:
        tests = json.load(f)
    return {t['name'].rpartition('/')[2]: t for t in tests}


def qemu_job(suite, test, build, *, extra=(), timeout=None, env=None):
    """A test of QEMU's; an extra option `!--full` takes one away."""
    cmd = [word for word in test['cmd'] if f'!{word}' not in extra]
    cmd += [word for word in extra if not word.startswith('!')]
    return Job(suite, test['name'].rpartition('/')[2], cmd,
               env=dict(test['env'], **(env or {})),
               cwd=test['workdir'] or build,
               timeout=timeout or max(test['timeout'], 60),
               tap=test['protocol'] == 'tap')


def tcg_only(build, folder):
    """A QEMU that leaves KVM alone, for tests that take it when it is there.

    With it they would depend on the machine: in a virtual machine, /dev/kvm
    may be there and run a guest a hundred times slower than TCG, or not at
    all.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, 'qemu-system-x86_64')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(f"""#!/bin/sh
# written by scripts/testlib.py
left=$#
while test $left -gt 0; do
    word=$1
    shift
    left=$((left - 1))
    case "$word $1" in
    '-accel kvm'*)
        shift
        left=$((left - 1)) ;;
    *)
        set -- "$@" "$word" ;;
    esac
done
exec {build}/qemu-system-x86_64 "$@"
""")
    os.chmod(path, 0o755)
    return path


def iotest_job(suite, build, fmt, name, timeout=300):
    return Job(suite, f'{fmt}-{name}',
               [os.path.join(build, 'pyvenv', 'bin', 'python3'), 'check',
                f'-{fmt}', name],
               cwd=os.path.join(build, 'tests', 'qemu-iotests'),
               timeout=timeout, iotest=True)


def unmount_stale(build):
    """FUSE mounts that an iotest left behind when it was killed."""
    scratch = os.path.join(build, 'tests', 'qemu-iotests', 'scratch')
    with open('/proc/mounts', encoding='utf-8') as f:
        mounts = [line.split()[1] for line in f]
    for path in mounts:
        if path.startswith(scratch + '/'):
            subprocess.run(['fusermount3', '-uz', path], check=False,
                           stderr=subprocess.DEVNULL)


def iotests(build, fmt, group):
    """The tests of a group that a format has, by check's own dry run."""
    run = subprocess.run(
        [os.path.join(build, 'pyvenv', 'bin', 'python3'), 'check', '-n',
         f'-{fmt}', '-g', group],
        cwd=os.path.join(build, 'tests', 'qemu-iotests'),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        sys.exit(f'check: iotests -{fmt} -g {group}: {run.stderr.strip()}')
    return run.stdout.split()


def read_list(path):
    """Lines `WORD... # comment` of a list file, as (words, comment)."""
    result = []
    if os.path.exists(path):
        with open(path, encoding='utf-8') as f:
            for line in f:
                text, _, comment = line.partition('#')
                if text.split():
                    result.append((text.split(), comment.strip()))
    return result


class LeftOut:
    """tests/left-out.list: SUITE PATTERN [SUBTEST] # reason."""

    def __init__(self, path):
        self.rules = []
        self.used = set()
        for words, reason in read_list(path):
            if len(words) not in (2, 3) or not reason:
                sys.exit(f'{path}: wanted SUITE NAME [SUBTEST] # reason,'
                         f' found: {" ".join(words)}')
            self.rules.append((words[0], words[1],
                               words[2] if len(words) == 3 else None, reason))

    def whole(self, suite, name):
        for rule in self.rules:
            if rule[0] == suite and rule[2] is None and \
                    fnmatch.fnmatchcase(name, rule[1]):
                return rule[3]
        return None

    def parts(self, suite, name):
        return [(rule[2], rule[3]) for rule in self.rules
                if rule[0] == suite and rule[2] and
                fnmatch.fnmatchcase(name, rule[1])]
