# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person reads while something runs: steps, notes and tables."""

import os
import sys
import time

_start = time.monotonic()
_colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ
_prefix = ''


def configure(prefix: str = '') -> None:
    """Put PREFIX before each line (test output needs '# ')."""
    global _prefix
    _prefix = prefix


def elapsed() -> float:
    return time.monotonic() - _start


def paint(text: str, code: str) -> str:
    return f'\033[{code}m{text}\033[0m' if _colour else text


def bold(text: str) -> str:
    return paint(text, '1')


def good(text: str) -> str:
    return paint(text, '32')


def bad(text: str) -> str:
    return paint(text, '1;31')


def faint(text: str) -> str:
    return paint(text, '2')


def line(text: str = '') -> None:
    for one in text.split('\n'):
        print(f'{_prefix}{one}'.rstrip() if _prefix else one, flush=True)


def step(text: str) -> None:
    """One line for one step, with the time since the start."""
    line(f'{faint(f"[{elapsed():5.1f}s]")} {text}')


def note(text: str) -> None:
    for one in text.split('\n'):
        line(f'         {faint(one)}')


def visible(text: str) -> int:
    """Length of TEXT on the screen."""
    length, skip = 0, False
    for char in text:
        if char == '\033':
            skip = True
        elif skip:
            skip = char != 'm'
        else:
            length += 1
    return length


def table(rows: list[list[str]], left: int = 1, rule: int = 1) -> str:
    """ROWS as text; LEFT columns align left, RULE rows are the head."""
    width = [max(visible(row[i]) for row in rows) for i in range(len(rows[0]))]

    def cell(text: str, column: int) -> str:
        pad = ' ' * (width[column] - visible(text))
        return text + pad if column < left else pad + text

    out = ['  '.join(cell(text, i) for i, text in enumerate(row))
           for row in rows]
    out.insert(rule, '  '.join('─' * w for w in width))
    return '\n'.join(out)
