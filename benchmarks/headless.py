"""Time and score the headless path on simulated stacks: one line a run, appended to a JSON-lines file.

    python benchmarks/headless.py MAPS OUT [--rows trio-0.1 ...] [--seeds 0 1 2] [--averages trio-0.1]
        [--simulator ../shared/tools/simulate.py]

MAPS is a folder with the map folders ``trio`` and ``five``. Every run is made by the command line with default
settings, as a user would; the time is that of `train` alone, as a whole process. Rows that OUT/results.jsonl has are
not run again. With --averages, the clusters of a row (as many as identities) are averaged and compared with the mean
maps, beside the unaligned average and the one at the true poses.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROWS: dict[str, tuple[str, list[str], list[str]]] = {
    "trio-0.1": ("trio", ["--per", "60", "--snr", "0.1"], []),
    "trio-0.03": ("trio", ["--per", "60", "--snr", "0.03"], []),
    "trio-0.01": ("trio", ["--per", "60", "--snr", "0.01"], []),
    "trio-wedge": ("trio", ["--per", "60", "--snr", "0.1", "--wedge", "60"], ["--tilt-range", "-60,60"]),
    "trio-junk": ("trio", ["--per", "60", "--snr", "0.1", "--junk", "0.3"], []),
    "five-0.1": ("five", ["--per", "216", "--snr", "0.1"], []),
}
"""Name: map folder, options of the simulation, options of train."""
COMMAND = [sys.executable, "-m", "napari_disentangle"]


def call(*words: str) -> str:
    """Run a command of napari-disentangle and return what it printed."""
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"napari-disentangle {' '.join(words)}\n{done.stderr}")
    return done.stdout


def run_row(name: str, seed: int, a: argparse.Namespace) -> dict[str, Any]:
    """Simulate, train, evaluate, and average where asked."""
    folder, simulation, options = ROWS[name]
    data, run = a.out / f"{name}-{seed}" / "data", a.out / f"{name}-{seed}" / "run"
    shutil.rmtree(data.parent, ignore_errors=True)
    maps = a.maps / folder
    words = ["stack", str(maps), str(data), *simulation, "--seed", str(seed)]
    if a.simulator is None:
        call("simulate", *words)
    else:
        subprocess.run([sys.executable, str(a.simulator), *words], check=True, stdout=subprocess.DEVNULL)
    began = time.perf_counter()
    call("train", str(data / "particles.star"), str(run), *options)
    seconds = time.perf_counter() - began
    truth = str(data / "truth.csv")
    extra: list[str] = []
    if name in a.averages:
        identities = len({p.name.split("_")[0] for p in maps.glob("*.mrc")})
        groups = call("cluster", str(run), "--on", "content", "-k", str(identities), "--name", "A").split("\n")
        for group in filter(None, groups):
            call("average", str(run), "--selection", group.split(":")[0])
        extra = ["--maps", str(maps)]
    scores = json.loads(call("evaluate", str(run), "--truth", truth, "--json", *extra))
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    rates = {e["size"]: e["particles_per_second"] for e in events if e["event"] == "epoch"}
    return {
        "row": name, "seed": seed, "train_seconds": round(seconds, 1), "particles": scores["particles"],
        "particles_per_second": rates, "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "scores": scores,
    }  # fmt: skip


def line(result: dict[str, Any]) -> str:
    """Return a result as one line of a table."""
    model, baseline = result["scores"]["model"], result["scores"]["invariants"]
    text = (
        f"{result['row']:11} seed {result['seed']}  train {result['train_seconds']:6.1f} s  "
        f"P(c|z) {model['p']['value']:+.3f} | invariants {baseline['p']['value']:+.3f}  "
        f"ARI {model['ari']['value']:+.3f} | {baseline['ari']['value']:+.3f}  particles/s {result['particles_per_second']}"
    )
    for one in result["scores"]["averages"]:
        text += (
            f"\n    {one['selection']} {one['identity']} ({one['particles']}, {one['purity']:.0%}): unaligned "
            f"{one['unaligned']:.3f}, average {one['aligned']:.3f}, true poses {one['true_poses']:.3f}: {one['fraction']:.2f} of the way"
        )
    return text


def main() -> None:
    """Run what is asked and not there yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--averages", nargs="*", default=["trio-0.1"], choices=list(ROWS))
    parser.add_argument("--simulator", type=Path, help="another simulator of the same command line")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    results = a.out / "results.jsonl"
    known = [json.loads(text) for text in results.read_text().splitlines()] if results.exists() else []
    for name in a.rows:
        for seed in a.seeds:
            found = next((r for r in known if r["row"] == name and r["seed"] == seed), None)
            if found is None:
                found = run_row(name, seed, a)
                with results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
            print(line(found), flush=True)


if __name__ == "__main__":
    main()
