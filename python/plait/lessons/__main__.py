"""Runs one version of one lesson and reports it as JSON: how the tour runs each of them.

A process of its own gives every version the same clean start, lets the tour capture what
child processes print too, and leaves nothing behind when the tour is interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .frame import WholeLines, load, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run one version of one lesson.")
    parser.add_argument("name")
    parser.add_argument("version")
    parser.add_argument("delay", type=float)
    parser.add_argument("report", type=Path, help="the JSON file to write")
    options = parser.parse_args()
    sys.stdout = WholeLines(1)
    done = run(load(options.name, options.version), options.delay)
    options.report.write_text(
        json.dumps(
            {
                "seconds": done.seconds,
                "reason": done.reason,
                "timeline": done.timeline.to_dict(),
            }
        )
    )
