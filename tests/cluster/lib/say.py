# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person reads while something runs: steps, notes and tables."""

import os
import shutil
import sys
import time

EVERY = 5                       # seconds between two status lines in a log

_start = time.monotonic()
_colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ
_prefix = ''
_live = False                   # are status lines wanted?
_shown = False                  # is there one on the terminal?
_drawn = _start                 # when it was written
_told = _start                  # when a log got its last line


def configure(prefix: str = '', live: bool = False) -> None:
    """Put PREFIX before each line (test output needs '# '). LIVE: show what
    is waited for."""
    global _prefix, _live
    _prefix, _live = prefix, live


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
    global _shown, _told
    if _shown:
        sys.stdout.write('\r\033[K')
    _shown, _told = False, time.monotonic()
    for one in text.split('\n'):
        print(f'{_prefix}{one}'.rstrip() if _prefix else one, flush=True)


def status(text: str) -> None:
    """What is waited for: on a terminal in place, until the next line; in a
    log as a line of its own, from time to time."""
    global _shown, _drawn
    if not _live:
        return
    now = time.monotonic()
    text = f'[{elapsed():5.1f}s]   … {text}'
    if sys.stdout.isatty():
        if _shown and now - _drawn < 0.1:
            return
        width = shutil.get_terminal_size().columns - 1
        sys.stdout.write(f'\r\033[K{faint(text[:width])}')
        sys.stdout.flush()
        _shown, _drawn = True, now
    elif now - _told > EVERY:
        line(text)


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
