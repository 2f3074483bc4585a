"""Flip one bit at each of 200 random positions of raw files, arrays, windows and objects of DVC's cache.

Prints how many were detected before anything was computed from them, named, and repaired by the stage that makes the file.
Run by hand; takes some minutes.

    python benchmarks/bit_flips.py [--flips 200] [--seed 0]
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.faults.bit_flips import KINDS, Flip, PipelineProject


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = PipelineProject(Path(name) / "clone", args.seed)
        bit_flips = [(kind, project.flip(kind)) for kind in (KINDS * args.flips)[: args.flips]]
        for kind in KINDS:
            print(f"{kind:10} {summary([flip for flipped_kind, flip in bit_flips if flipped_kind == kind])}")
        for kind, flip in bit_flips:
            if not flip.handled:
                where = flip.file.relative_to(project.paths.root)
                print(f"  {kind}: byte {flip.offset} of {where}: {flip.message[:200] or 'not detected'}")
        print(summary([flip for _, flip in bit_flips]))


def summary(bit_flips: list[Flip]) -> str:
    fields = ("message", "named", "repaired")
    detected, named, repaired = (sum(bool(getattr(flip, field)) for flip in bit_flips) for field in fields)
    return f"detected {detected} of {len(bit_flips)}, named {named}, repaired {repaired}"


if __name__ == "__main__":
    main()
