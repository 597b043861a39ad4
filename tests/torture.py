"""Kill the study at random moments, start it again, and compare its tables with those of an undisturbed run.

`make torture` does it to the smoke study; the tests do it to a tiny one. Every kill is SIGKILL, which nothing
can handle, either of all processes of the run at once or of the run alone, whose kernel must then end by
itself. Without a kill it shows that the study repeats: `make repeat` runs it in an empty copy, which gets the
times that are kept (see `benchmark.keep`), and compares every file with results/: a rerun leaves nothing to
commit.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parents[1]
CLOCK = ("speed_", "search_speed")  # names of tables that hold times and so never repeat
SHORTEST, LONGEST = (
    1.0,
    90.0,
)  # seconds from the first notebook's start to the kill, drawn evenly on a logarithmic scale
ALONE = 0.3  # share of the kills that hit the run alone
AIMED = 0.5  # share of the kills that wait for the next file that is half-written


@dataclass
class Kill:
    """One kill and what it hit."""

    number: int
    seconds: float  # after its first notebook began
    stage: str
    victim: str  # "all" processes, or the "run" alone
    writing: str  # the files that were half-written, if any

    def __str__(self) -> str:
        return (
            f"kill {self.number:3}  {self.seconds:5.1f} s  {self.victim:4} {self.stage:28} "
            f"writing {self.writing}"
        )


def copy_project(folder: Path) -> Path:
    """Copy package and notebooks to an empty folder, whose data and results are then its own."""
    for name in ("waldo_utils", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def copy_kept(source: Path, project: Path, profile: str) -> None:
    """Copy what a rerun keeps to a project: the profile's clock times and what its run took, and the
    benchmarks."""
    folder = source / "results" / profile
    kept = [path for path in folder.rglob("*") if path.name == "runs.json" or path.name.startswith(CLOCK)]
    kept += (source / "results" / "benchmarks").glob("*")
    for path in kept:
        if path.suffix in (".csv", ".json"):
            place = project / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


def start(project: Path, command: list[str]) -> subprocess.Popen:
    """Start a command of a copied project in a process group of its own; its output is read as it comes."""
    environment = os.environ | {"PYTHONPATH": str(project), "TQDM_DISABLE": "1"}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def torture(
    project: Path,
    command: list[str],
    kills: int,
    rng: random.Random,
    longest: float = LONGEST,
    first: int = 1,
) -> list[Kill]:
    """Start a command and kill it again and again, at most `kills` times, then let it end; without kills,
    show its output.

    Raises:
        RuntimeError: a run failed by itself; holds its output.
    """
    log: list[Kill] = []
    while True:
        process, begin, lines = start(project, command), time.monotonic(), []
        reader = threading.Thread(target=_read, args=(process, lines, not kills), daemon=True)
        reader.start()
        if len(log) < kills:
            moment = SHORTEST * (longest / SHORTEST) ** rng.random()
            alone, aimed = rng.random() < ALONE, rng.random() < AIMED
            while process.poll() is None and not any(line.startswith("[") for line in lines):
                time.sleep(0.1)
            begin = time.monotonic()
            _wait(process, begin + moment)
            while aimed and process.poll() is None and not half_written(project):
                if time.monotonic() > begin + moment + 5:
                    break
            if process.poll() is None:
                writing = _kill(process, project, alone)
                reader.join()
                process.stdout.close()
                stages = [
                    line.split()[1] for line in lines if line.startswith("[") and line.endswith("...\n")
                ]
                number, seconds = first + len(log), time.monotonic() - begin
                log.append(
                    Kill(
                        number,
                        seconds,
                        stages[-1] if stages else "before the first",
                        "run" if alone else "all",
                        writing,
                    )
                )
                print(log[-1], flush=True)
                continue
        process.wait()
        reader.join()
        process.stdout.close()
        if process.returncode:
            raise RuntimeError(f"a run ended with exit code {process.returncode}:\n{''.join(lines)}")
        return log


def _read(process: subprocess.Popen, lines: list[str], show: bool) -> None:
    """Collect what a run prints, and print it if asked to."""
    for line in process.stdout:
        lines.append(line)
        if show:
            print(line, end="", flush=True)


def _wait(process: subprocess.Popen, until: float) -> None:
    """Wait until a moment, or until the process ends."""
    try:
        process.wait(max(until - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        pass


def _kill(process: subprocess.Popen, project: Path, alone: bool) -> str:
    """Kill a run, alone or with all that it started, and name the files that it was writing."""
    victims = [] if alone else psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            pass
    writing = half_written(project)
    process.wait()
    psutil.wait_procs(victims, timeout=30)
    return ", ".join(path.name for path in writing) or "-"


def half_written(project: Path, copies: bool = False) -> list[Path]:
    """Return the temporary files of a project that are there at this moment.

    Args:
        project: the copied project.
        copies: also the executed copy of a notebook, which has a temporary name as long as the notebook runs.
    """
    return [
        Path(folder) / name
        for top in ("data", "results")
        for folder, _, names in os.walk(project / top)
        for name in names
        if ".partial" in name and (copies or not name.endswith(".ipynb"))
    ]


def tables(project: Path, profile: str = "smoke") -> dict[str, bytes]:
    """Return the result tables of a project, without those and the columns that hold times."""
    content = {}
    for path in sorted((project / "results" / profile / "tables").glob("*.csv")):
        if not path.name.startswith(CLOCK):
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            content[path.stem] = (
                table.drop(columns="seconds").to_csv(index=False).encode()
                if "seconds" in table
                else path.read_bytes()
            )
    return content


def everything(project: Path, profile: str) -> dict[str, bytes]:
    """Return the bytes of all results of a profile, but for the page that is written by another command."""
    folder = project / "results" / profile
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "README.md"
    }


def differences(expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """Return the names of the files that are not the same byte for byte, or that only one side has."""
    return sorted(name for name in expected | found if expected.get(name) != found.get(name))


def main() -> int:
    """Torture a study and print the log and a summary; the exit code is 1 if a table differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="smoke", help="whose study (default: smoke)")
    parser.add_argument(
        "--kills", type=int, default=50, help="in all (default: 50); 0: run it once undisturbed"
    )
    parser.add_argument("--per-run", type=int, default=12, help="kills until a run may end (default: 12)")
    parser.add_argument(
        "--expected", type=Path, help="a project with an undisturbed run (default: one is made first)"
    )
    parser.add_argument("--longest", type=float, default=LONGEST, help="seconds from a start to its kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    command = ["-m", "waldo_utils", "run", "--profile", options.profile]
    rng, log, wrong, runs = random.Random(options.seed), [], [], 0
    with tempfile.TemporaryDirectory(prefix="waldo-torture-") as temporary:
        calm = options.expected
        if calm is None:
            calm = copy_project(Path(temporary) / "calm")
            torture(calm, command, kills=0, rng=rng)
        repeats = not options.kills and options.expected
        read = everything if repeats else tables
        expected = read(calm, options.profile)
        if not expected:
            parser.error(
                f"{calm} holds no tables of {options.profile}: run `make study PROFILE={options.profile}`"
            )
        while not runs or len(log) < options.kills:
            runs += 1
            project = copy_project(Path(temporary) / f"run{runs}")
            if repeats:
                copy_kept(calm, project, options.profile)
            kills = min(options.per_run, options.kills - len(log))
            log += torture(project, command, kills, rng, options.longest, first=len(log) + 1)
            found = read(project, options.profile)
            wrong += [f"run {runs}: {name}" for name in differences(expected, found)]
            left = [str(path) for path in half_written(project, copies=True)]
            wrong += [f"run {runs}: {path} is left" for path in left]
            print(
                f"run {runs} ended after {len(log)} kills in all, differing: {wrong or 'nothing'}", flush=True
            )
            shutil.rmtree(project)
    if log:
        table = pd.DataFrame([vars(kill) for kill in log])
        print(table.groupby(["stage", "victim"]).size().unstack(fill_value=0).to_string())
    print(
        f"{len(log)} kills in {runs} runs, {sum(kill.writing != '-' for kill in log)} in the middle of "
        f"writing a file; {len(expected)} {'files' if repeats else 'tables'} each, differing: "
        f"{', '.join(wrong) or 'none'}"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
