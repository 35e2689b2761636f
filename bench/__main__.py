"""`python -m bench [NAME …]`: run the benchmarks, one after the other; all of them by default.

Figures are ratios and limits within one run; docs/benchmarks.md says what they were and on what.
"""

from __future__ import annotations

import importlib
import sys

BENCHES = {
    "startup": "start-up of the command line beside `python -c pass`",
    "objects": "10,000 objects in 50 namespaces: first capture, 1 % changed, status churn",
    "growth": "100 changes among 1,000 and 10,000 objects: growth with the changes, not the cluster",
    "contents": "peak memory of capturing a 2 GiB stream and 100,000 small files out of containers",
    "cel": "expressions a second, beside celpy and compiled engines",
    "store_memory": "the same put into the store directly",
}


def main() -> None:
    """Run what was asked for."""
    wanted = sys.argv[1:] or list(BENCHES)
    unknown = set(wanted) - set(BENCHES)
    if unknown:
        sys.exit(
            f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}"
        )
    for name in wanted:
        print(f"\n== {name}: {BENCHES[name]}", flush=True)
        sys.argv = [name]
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
