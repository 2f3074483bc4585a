"""One flipped bit at each of 200 random places: raw files, arrays, windows, objects of DVC's cache.

Prints how many were noticed before anything was computed from them, named, and mended by the stage that makes the file.
Run by hand: some minutes.

    python benchmarks/bit_flips.py [--places 200] [--seed 0]
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.faults.bit_flips import KINDS, Flip, Made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--places", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = Made(Path(name) / "clone", asked.seed)
        bit_flips = [(kind, made.flip(kind)) for kind in (KINDS * asked.paths)[: asked.paths]]
        for kind in KINDS:
            print(f"{kind:10} {summary([flip for of, flip in bit_flips if of == kind])}")
        for kind, flip in bit_flips:
            if not flip.well:
                where = flip.file.relative_to(made.paths.root)
                print(f"  {kind}: byte {flip.place} of {where}: {flip.said[:200] or 'not noticed'}")
        print(summary([flip for _, flip in bit_flips]))


def summary(bit_flips: list[Flip]) -> str:
    noticed, named, mended = (sum(bool(getattr(flip, what)) for flip in bit_flips) for what in ("said", "named", "mended"))
    return f"noticed {noticed} of {len(bit_flips)}, named {named}, mended {mended}"


if __name__ == "__main__":
    main()
