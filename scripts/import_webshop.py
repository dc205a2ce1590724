"""Build a memory-mapped shop folder from the official WebShop files (also those with 1.18 million products).

    python scripts/import_webshop.py DOWNLOAD OUT [--seed 0]

DOWNLOAD holds items_shuffle*.json, items_ins_v2*.json and optionally items_human_ins*.json (.gz or not), as
published by princeton-nlp/WebShop. Products are streamed; the attribute file is read at once (the full one needs
about 2 GB of memory). Afterwards ``env.data=OUT`` uses the folder, with ``env.goals=human`` or ``synthetic``.
The seed draws the prices of products with a price range, as the original's unseeded generator did.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from agentrl.envs.webshop import disk, official
from agentrl.errors import AgentRLError


def main() -> int:
    """Build and verify; exit code 2 with one sentence when the files are not as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("download", type=Path, help="folder with the official files")
    parser.add_argument("out", type=Path, help="folder to make; must not exist")
    parser.add_argument("--seed", type=int, default=0, help="seed of the range prices (default 0)")
    arguments = parser.parse_args()
    start = time.perf_counter()
    try:
        paths = official.locate(arguments.download)
        extras, human = official.read_instructions(paths)
        count = disk.build(
            arguments.out,
            official.stream(paths["products"]),
            name=official.name_of(paths["products"]),
            seed=arguments.seed,
            extras=extras,
            human=human,
            progress=lambda done: print(f"{done:,} products, {time.perf_counter() - start:.0f} s", file=sys.stderr),
        )
        disk.verify(arguments.out)
    except AgentRLError as error:
        print(f"import_webshop: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: {count:,} products in {time.perf_counter() - start:.0f} s, verified")
    return 0


if __name__ == "__main__":
    sys.exit(main())
