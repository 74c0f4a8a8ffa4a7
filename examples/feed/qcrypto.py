"""Turn log lines of the qcrypto stack, on stdin, into messages for qkdctl's feed, on stdout.

    tail -n +1 -f ecnotepipe.log | python qcrypto.py | socat - UNIX-CONNECT:/run/qkdctl/lab1.feed

Two kinds of lines are read, told apart by their number of fields:

- Error correction, a finished block: what ``errcd -V 2`` writes to its notification pipe,
  ``EPOCH RAW-BITS FINAL-BITS ERROR-RATE EPOCHS``, with EPOCH in hexadecimal. Both bases are told
  together, so the testbed file needs ``[feed] pooled = true``. The original program leaves EPOCHS
  out: give ``--epochs``.
- Service mode, no key: ``EPOCH`` followed by what ``diagnosis -q`` prints for that epoch's file,
  that is 16 coincidences (Alice by Bob, each V, -, H, +) and four totals:
  ``for f in t3/*; do echo "$(basename $f) $(diagnosis -q $f)"; done``

An epoch is 2^29 ns, and an epoch's number counts these from 1970 on.

Sources of the formats: https://github.com/s-fifteen-instruments/qcrypto,
errorcorrection/ecd2.c (notification; option -V), remotecrypto/diagnosis.c;
https://github.com/kurtsiefer/qcrypto, remotecrypto/epochdefinition.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

EPOCH_S = 2**29 * 1e-9

LETTERS = "VAHD"
"""Detectors of qcrypto, V, -, H and +, in its order."""

WANTED = "HVDA"
"""Order of sent states and of detectors in a message."""

OPPOSITE = {"H": "V", "V": "H", "D": "A", "A": "D"}

FIELDS_OF_BLOCK = (4, 5)
FIELDS_OF_SERVICE = 1 + 16 + 4


def block(fields: list[str], epochs: int | None) -> dict[str, Any]:
    """Read a block of error correction: the error rate has four decimals, so errors are rounded."""
    if len(fields) not in FIELDS_OF_BLOCK:
        raise ValueError(f"a line of {len(fields)} fields is neither of the two kinds")
    if len(fields) > FIELDS_OF_BLOCK[0]:
        epochs = int(fields[4])
    if epochs is None:
        raise ValueError("the number of epochs of a block is not told: give --epochs")
    sifted, error_rate = int(fields[1]), float(fields[3])
    return {
        **when(fields[0], epochs),
        "origin": "error-correction",
        "bases": {"both": {"sifted": sifted, "errors": round(error_rate * sifted)}},
    }


def service(fields: list[str], *, is_correlated: bool) -> dict[str, Any]:
    """Read the coincidences of an epoch in service mode.

    The pairs of qcrypto's source are anticorrelated: where Alice sees V, she sent H.
    """
    found = [int(field) for field in fields[1:17]]
    by_letters = {
        (alice if is_correlated else OPPOSITE[alice], bob): found[4 * i + j]
        for i, alice in enumerate(LETTERS)
        for j, bob in enumerate(LETTERS)
    }
    counts = [[by_letters[sent, detector] for detector in WANTED] for sent in WANTED]
    return {**when(fields[0], 1), "origin": "calibration", "counts": counts}


def when(epoch: str, epochs: int) -> dict[str, float]:
    """Return when a block began and how long it lasted, s."""
    return {"start_s": int(epoch, 16) * EPOCH_S, "duration_s": epochs * EPOCH_S}


def messages(
    lines: Iterable[str], *, epochs: int | None = None, is_correlated: bool = False
) -> Iterator[dict[str, Any]]:
    """Read lines; one that is neither of the two kinds is told on stderr and passed over."""
    sequence = 0
    for line in lines:
        fields = line.split()
        try:
            if len(fields) == FIELDS_OF_SERVICE:
                counts = service(fields, is_correlated=is_correlated)
            else:
                counts = block(fields, epochs)
        except ValueError as exc:
            sys.stderr.write(f"passed over: {exc}\n")
            continue
        yield {"version": 1, "stream": "qcrypto", "sequence": sequence, **counts}
        sequence += 1


def main() -> None:
    """Read stdin, write stdout, line by line."""
    parser = argparse.ArgumentParser(description="qcrypto log lines to qkdctl feed messages")
    parser.add_argument("--epochs", type=int, help="epochs of a block, where lines do not tell")
    parser.add_argument("--correlated", action="store_true", help="a source of correlated pairs")
    given = parser.parse_args()
    for message in messages(sys.stdin, epochs=given.epochs, is_correlated=given.correlated):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
