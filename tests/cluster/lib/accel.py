# SPDX-License-Identifier: GPL-2.0-or-later
"""Can KVM run a guest here? Only a run can tell: /dev/kvm may be there and
run a BIOS but no kernel, in a virtual machine without nesting for example."""

import resource
import subprocess
import tempfile
import time
from pathlib import Path

from . import build


def kvm_works(qemu: Path, timeout: float = 6) -> bool:
    """Boot the test guest with KVM; where that works it takes a second."""
    def no_core_dump() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with tempfile.NamedTemporaryFile(dir=build.GUEST) as serial:
        with subprocess.Popen(
                [str(qemu), '-M', 'q35', '-accel', 'kvm', '-cpu', 'host', '-m',
                 '128', '-nodefaults', '-no-user-config', '-no-reboot',
                 '-display', 'none', *build.firmware_options(), '-serial',
                 f'file:{serial.name}', '-kernel', str(build.kernel()),
                 '-initrd', str(build.initramfs()), '-append',
                 'console=ttyS0 quiet panic=-1'],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, preexec_fn=no_core_dump) as run:
            try:
                end = time.monotonic() + timeout
                while run.poll() is None and time.monotonic() < end:
                    if b'GUEST READY' in Path(serial.name).read_bytes():
                        return True
                    time.sleep(0.05)
            finally:
                run.kill()
    return False
