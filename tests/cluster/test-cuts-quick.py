#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Some of the cuts of a quick migration: make check-migration-cuts does all."""

import os
import sys
from pathlib import Path

CUTS = Path(__file__).resolve().parent / 'cuts-quick'

if __name__ == '__main__':
    os.execv(CUTS, [str(CUTS), '--sample', '24', '--seed', '1',
                    *sys.argv[1:]])
