"""One contender's process: `python -m twoplayer.bench.worker`, told what to do by lines of JSON on its stdin.

The first line describes the work. Every further line says how many times to do it; the answer is how long that took.
Ours sets its process up as the program does; the ordinary way computes in a process as Python starts it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twoplayer.core.process import flush_denormals, keep_compiled, set_up_process


def main() -> None:
    """Work until stdin ends."""
    told = json.loads(sys.stdin.readline())
    if told["way"] in ("ours", "streamed"):
        set_up_process()
        flush_denormals()
        keep_compiled()
    from twoplayer.bench import files
    from twoplayer.bench.workloads import WORK, seconds_of, setup_of

    setup = setup_of(told)
    work = (WORK | files.WORK)[f"{told['what']}/{told['way']}"](setup)
    answer({"ready": True})
    for line in sys.stdin:
        answer({"seconds": seconds_of(work, json.loads(line)["times"], setup.device)})


def answer(facts: dict[str, Any]) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
