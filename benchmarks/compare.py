"""Compare lensflow with its peers, side by side in one run: ``python benchmarks/compare.py NAME [--json]``.

Each comparison prints one object: name, ours, peer, ratio, goal, met, conditions. Absolute times depend on
the machine; ratios are what counts.
"""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def names() -> dict[str, Path]:
    """Return the comparisons by name."""
    return {path.stem.replace("_", "-"): path for path in sorted((HERE / "comparisons").glob("*.py"))}


def run(path: Path) -> dict[str, object]:
    """Run one comparison."""
    spec = importlib.util.spec_from_file_location(f"comparison_{path.stem}", path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules.pop(spec.name, None)  # so that its functions reach workers by value
    return module.compare()  # type: ignore[no-any-return]


def main() -> None:
    """Run the comparison named on the command line."""
    known = names()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(known))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    for variable in THREADS:  # before numpy is imported
        os.environ.setdefault(variable, "1")
    found = run(known[given.name])
    if given.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        if isinstance(value, list):
            print(f"{key}:", *(f"  {row}" for row in value), sep="\n")
        else:
            print(f"{key:>12}  {value}")


if __name__ == "__main__":
    main()
