"""One loop written by hand, by itself: python -m ganglion.engine.bench.loops TASK [--style loader] [--iterations 1000].

The data are random numbers of the task's size: the time does not depend on them. Tells when the first iteration is
done, and in the end the iterations per second.
"""

from __future__ import annotations

import argparse
import time

import torch

from ganglion.engine.bench.loops.tasks import STYLES, WRITTEN, write_loop


def main() -> None:
    """Run one loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(WRITTEN))
    parser.add_argument(
        "--style", choices=STYLES, default="loader", help="careful by DataLoader or gather, or tutorial"
    )
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    task = WRITTEN[arguments.task]
    loop = write_loop(task, arguments.style, torch.rand(task.rows), arguments.device)
    loop(1)
    print("first iteration done", flush=True)
    began = time.perf_counter()
    loop(arguments.iterations)
    if arguments.device.startswith("cuda"):
        torch.cuda.synchronize()
    print(f"{arguments.iterations / (time.perf_counter() - began):.1f} iterations per second")


if __name__ == "__main__":
    main()
