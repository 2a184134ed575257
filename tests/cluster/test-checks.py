#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The checks of the cluster tests find what they are there to find."""

import argparse
import dataclasses
import struct
import sys
import tempfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import storage                         # noqa: E402
from lib.owners import Owners, Sample           # noqa: E402

SLOTS = 64


def block(seq: int, run: int = 7) -> bytes:
    """A record as guest/agent.c writes it."""
    data = struct.pack('<8sQQQ', b'CSVRECRD', seq, run, 0)
    data += bytes(4096 - 4 - len(data))
    return data + zlib.crc32(data).to_bytes(4, 'little')


def listing(blocks: dict[int, bytes]) -> list[str]:
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(SLOTS * 4096)
        for slot, data in blocks.items():
            f.seek(slot * 4096)
            f.write(data)
        f.flush()
        return storage.list_records(Path(f.name))


def slot(seq: int) -> int:
    return seq * storage.STRIDE % SLOTS


def records() -> None:
    """Records that are missing, older, damaged, displaced or foreign"""
    full = {slot(n): block(n) for n in range(1, 101)}   # comes round once

    def wrong(blocks: dict[int, bytes], durable: int = 100) -> list[str]:
        return storage.check_records(listing(blocks), SLOTS, 1, durable)

    assert not wrong(full)
    assert not wrong(full, 90)                  # newer ones do no harm
    assert wrong(full, 101)
    assert wrong({s: d for s, d in full.items() if s != slot(99)})
    assert wrong({**full, slot(100): block(36)})
    damaged = bytearray(full[slot(80)])
    damaged[2000] ^= 1
    assert wrong({**full, slot(80): bytes(damaged)})
    assert wrong({**full, slot(80): block(81)})
    assert wrong({**full, slot(80): block(80, run=8)})
    assert wrong({**full, slot(80): b'x' * 4096})


def owners() -> None:
    """Two owners of an epoch, an epoch that goes back, two that run"""
    a = Sample(1.0, 1.1, 'A', 'data', 'owned', 1, (0, 1), True, True)
    b = Sample(2.0, 2.1, 'B', 'data', 'owned', 2, (1, 1), True, True)
    witness = dataclasses.replace(b, where='witness', mine=False,
                                  running=False)

    def wrong(*samples: Sample) -> list[str]:
        watch = Owners(1)
        watch.samples = list(samples)
        return watch.check()

    assert not wrong(a, b, witness)
    # the same epoch, another owner
    assert wrong(a, dataclasses.replace(b, epoch=1))
    # A is asked after B has answered, and still sees what was before
    assert wrong(b, dataclasses.replace(a, asked=3.0, answered=3.1))
    # unless the questions overlap: then either order is right
    assert not wrong(b, dataclasses.replace(a, asked=1.5, answered=2.5,
                                            running=False))
    # both run at a time
    assert wrong(dataclasses.replace(a, answered=2.05), b)
    # a guest runs where the disk is not owned
    assert wrong(dataclasses.replace(a, mine=False))
    # a question that failed
    watch = Owners(1)
    watch.troubles = ['A: no such command']
    assert watch.check()


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_known_args()
    tests = (records, owners)
    print(f'1..{len(tests)}')
    for number, test in enumerate(tests, 1):
        test()
        print(f'ok {number} - {test.__doc__}')
