"""Record number `index` of `seed`, and the line by which readers compare it.

The same function exists in every driver; tests/src/records.rs says what it must be.
"""

import hashlib

ALPHABET = b"abcdefghijklmnopqrstuvwxyz234567"
MASK = (1 << 64) - 1


def text(state, length):
    out = bytearray()
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        out.append(ALPHABET[state >> 59])
    return bytes(out)


def record(seed, index):
    """(key or None, value or None, [(name, value)], timestamp in ms)"""
    state = (seed * 1_000_003 + index) & MASK
    key = None if index % 13 == 0 else b"k%d-%d" % (seed, index)
    value = None if index % 97 == 0 and index % 13 != 0 else text(state, 1 + index * 7 % 400)
    headers = [] if index % 5 == 0 else [("seed", b"%d" % seed), ("index", b"%d" % index)]
    return key, value, headers, 1_700_000_000_000 + seed * 1000 + index * 7


def line(partition, offset, timestamp, key, value, headers):
    fields = [
        b"%d" % partition,
        b"%d" % offset,
        b"%d" % timestamp,
        b"-" if key is None else key,
        b"-" if value is None else value,
        b",".join(name.encode() + b"=" + (v or b"") for name, v in headers or []),
    ]
    return b"\t".join(fields) + b"\n"


def report(lines):
    """Prints what was read. `lines` maps (partition, offset) to its line."""
    ranges = {}
    for partition, offset in sorted(lines):
        first, _ = ranges.get(partition, (offset, offset))
        ranges[partition] = (first, offset + 1)
    digest = hashlib.sha256(b"".join(lines[at] for at in sorted(lines))).hexdigest()
    shown = ",".join(f"{p}:{a}-{b}" for p, (a, b) in sorted(ranges.items()))
    print(f"count={len(lines)} ranges={shown} sha256={digest}")


def arguments():
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["produce", "consume", "group"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--codec", default="none")
    parser.add_argument("--idempotent", default="false")
    parser.add_argument("--group", default="")
    arguments = parser.parse_args()
    arguments.idempotent = arguments.idempotent == "true"
    return arguments
