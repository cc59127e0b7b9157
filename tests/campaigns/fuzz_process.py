"""The process in which a campaign tries changed bytes: a line of JSON per input on stdout.

`python -m tests.campaigns.fuzz_process READER START STOP`. An input that ends this process, by a
crash or by taking too long, is the one after the last line.
"""

import faulthandler
import json
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.support.fuzzed_readers import try_one

LONGEST_S = 60  # of one input; then the process prints where it is and ends


def peak_bytes() -> int:
    """Most memory of this process so far; the usual call would count its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def main() -> None:
    """Try the inputs of one reader and print what came of each."""
    reader, start, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        for number in range(start, stop):
            faulthandler.dump_traceback_later(LONGEST_S, exit=True)
            start_s = time.monotonic()
            try:
                outcome, error = try_one(reader, number, Path(folder)), ""
            except Exception:
                outcome, error = "ended the run", traceback.format_exc()
            found = {
                "number": number,
                "outcome": outcome,
                "error": error,
                "seconds": time.monotonic() - start_s,
                "peak_bytes": peak_bytes(),
            }
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
