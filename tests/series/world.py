# SPDX-License-Identifier: GPL-2.0-or-later
"""A small QEMU and a small repository to try the scripts on, and TAP output."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

QCOW2 = ''.join(f'/* line {n} */\n' for n in range(1, 41))
DRIVER = '''/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
'''
MESSAGE = '''block: %s

The reason why upstream must be touched.

Upstream-Status: Inappropriate [test]
Patch: %s
Signed-off-by: A Tester <tester@example.org>
'''


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)
    os.chmod(path, mode)


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


class World(unittest.TestCase):
    """Each test has a repository with one patch and one file of its own."""

    def setUp(self):
        self.tmp = tempfile.mkdtemp(prefix='csv-series-')
        self.addCleanup(shutil.rmtree, self.tmp, True)
        self.repo = os.path.join(self.tmp, 'repo')
        self.qemu = self.make_qemu('10.0.50')
        self.build = os.path.join(self.repo, 'build')
        self.src = os.path.join(self.build, 'src')
        os.makedirs(self.build)
        shutil.copytree(os.path.join(TOP, 'scripts'),
                        os.path.join(self.repo, 'scripts'),
                        ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy(os.path.join(TOP, 'configure'), self.repo)
        shutil.copy(os.path.join(TOP, 'LICENSE'), self.repo)
        write(self.path('UPSTREAM'), 'branch=10.0\nversion=10.0.50\n'
              f'suite=trixie\nsha256={"0" * 64}\n')
        write(self.path('patches/series'), '# the head\n')
        write(self.path('block/csv/driver.c'), DRIVER)
        self.env = dict(os.environ, GIT_AUTHOR_NAME='A Tester',
                        GIT_AUTHOR_EMAIL='tester@example.org',
                        GIT_COMMITTER_NAME='A Tester',
                        GIT_COMMITTER_EMAIL='tester@example.org',
                        GIT_CONFIG_GLOBAL='/dev/null',
                        GIT_AUTHOR_DATE='2025-01-01T00:00:00Z')
        self.env.pop('CSV_BUILD', None)
        self.ok(self.prepare())
        self.commit('build the driver', 'hook/block-csv', 20)
        self.ok(self.run_script('refresh-patches'))

    def path(self, *names):
        return os.path.join(self.repo, *names)

    def make_qemu(self, version):
        tree = os.path.join(self.tmp, f'qemu-{version}')
        write(os.path.join(tree, 'VERSION'), version + '\n')
        write(os.path.join(tree, 'block', 'qcow2.c'), QCOW2)
        write(os.path.join(tree, 'block', 'other.c'), QCOW2)
        real = os.path.join(TOP, 'build', 'src', 'scripts', 'checkpatch.pl')
        write(os.path.join(tree, 'scripts', 'checkpatch.pl'), read(real))
        return tree

    def run_cmd(self, *cmd, cwd=None, env=None):
        run = subprocess.run(cmd, cwd=cwd or self.repo, env=env or self.env,
                             stdin=subprocess.DEVNULL, text=True,
                             stdout=subprocess.PIPE, check=False,
                             stderr=subprocess.STDOUT, timeout=120)
        return run.returncode, run.stdout

    def run_script(self, name, *args, env=None):
        return self.run_cmd(self.path('scripts', name), *args, env=env)

    def prepare(self, source=None, mode='link'):
        return self.run_script('prepare-source', mode, source or self.qemu)

    def git(self, *args):
        status, out = self.run_cmd('git', '-C', self.src, *args)
        self.assertEqual(status, 0, out)
        return out.strip()

    def edit(self, line, text=None, name='block/qcow2.c'):
        """Change one line of a file in build/src."""
        path = os.path.join(self.src, name)
        lines = read(path).splitlines(True)
        lines[line - 1] = text or f'/* line {line} is ours */\n'
        write(path, ''.join(lines))

    def commit(self, what, name, line, message=None):
        self.edit(line)
        self.git('commit', '-q', '-a', '-m',
                 message or MESSAGE % (what, name))

    def ok(self, result):
        self.assertEqual(result[0], 0, result[1])
        return result[1]

    def refused(self, result, *words):
        """It failed, and said why."""
        self.assertNotEqual(result[0], 0, f'was accepted: {result[1]}')
        for word in words:
            self.assertIn(word, result[1])
        return result[1]

    def check(self, *args):
        # the scripts are the real ones: shellcheck is not for here
        return self.run_script('check-series', '--without', 'shell_scripts',
                               *args)


class Tap(unittest.TextTestResult):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.number = 0

    def line(self, word, test, more=''):
        self.number += 1
        name = test.shortDescription() or test.id()
        print(f'{word} {self.number} - {name}{more}', flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.line('ok', test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line('ok', test, f' # SKIP {reason}')

    def bad(self, test, err):
        self.line('not ok', test)
        text = self._exc_info_to_string(err, test)
        print(''.join(f'#   {line}\n' for line in text.splitlines()),
              end='', flush=True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.bad(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.bad(test, err)


def main():
    """Run the tests of the calling program; --build is what check gives."""
    args = sys.argv[1:]
    if '--build' in args:
        del args[args.index('--build'):args.index('--build') + 2]
    loader = unittest.defaultTestLoader
    module = sys.modules['__main__']
    suite = (loader.loadTestsFromNames(args, module) if args
             else loader.loadTestsFromModule(module))
    print(f'1..{suite.countTestCases()}', flush=True)
    with open(os.devnull, 'w', encoding='utf-8') as null:
        runner = unittest.TextTestRunner(stream=null, resultclass=Tap)
        result = runner.run(suite)
    sys.exit(0 if result.wasSuccessful() else 1)
