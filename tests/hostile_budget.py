"""Pickles made by hand of many small things: each is cheap in the file and dear in memory or time."""

from hostile_pickles import EMPTY_DICT, EMPTY_LIST, MARK, call, get, items, list_of, name, put, text


def refused_pickles() -> dict[str, tuple[bytes, str]]:
    """Values of about 2 MB at most that would take hundreds of megabytes or minutes, and why they are refused."""
    grows, long, twice = 'many times its size', 'contains unprintable ones', 'two keys'
    modules = b''.join(text(f'm{n}') + put(100 + n) + b'0' for n in range(1000))
    pairs = b''.join(get(100 + n) + get(100 + m) + b'\x93' for n in range(1000) for m in range(180))
    key = text('k' * 400) + put(1) + b'0' + text('k' * 400) + put(2) + b'0'
    kind = name('a', 'B') + put(1) + b'0'
    many = items(EMPTY_DICT, {f'{n}': b'N' for n in range(20_000)}) + put(2) + b'0'
    return {
        'names of two parts': (modules + list_of(pairs), grows),
        'long name of a class': (text('m') + text('a' * 1998) + b'\x93', 'has 1,999 characters'),
        'long name in a line': (name('m', 'a' * 1_000_000), 'has 1,000,001 characters'),
        'equal keys': (key + EMPTY_DICT + MARK + get(1) + b'N' + (get(2) + b'N') * 300_000 + b'u', twice),
        'equal keys in pairs': (
            call(name('collections', 'OrderedDict'), list_of((text('a') + b'N\x86') * 2)),
            twice,
        ),
        'long key': (EMPTY_DICT + text('k' * 501) + b'Ns', long),
        'escapes in a key': (EMPTY_DICT + text('\x1b[2J') + b'Ns', long),
        'escapes in bytes as a key': (EMPTY_DICT + b'C\x04\x1b[2J' + b'Ns', long),
        'empty lists': (list_of(EMPTY_LIST * 500_000), grows),
        'empty sets': (list_of(b'\x8f' * 500_000), grows),
        'small tuples': (list_of(b'N\x85' * 500_000), grows),
        'small dicts': (list_of(b'}NNs' * 400_000), grows),
        'objects': (kind + list_of((get(1) + b')\x81') * 400_000), grows),
        'objects with one state': (kind + many + list_of((get(1) + b')\x81' + get(2) + b'b') * 1000), grows),
    }
