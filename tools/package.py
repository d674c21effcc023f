"""Build what a cluster needs: the wheel, the same as a zip for ``--py-files``, and beside them the jobs and the confs.

``--py-files`` hands a wheel to the driver alone; executors import lt_spark from a file whose name ends in ``.zip``.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_OF_THIS_MACHINE = "spark-defaults.conf"
"""Written into ``conf/`` by the install; names this machine's paths."""


def build_wheel(out: Path) -> Path:
    """Build the wheel of this checkout into a folder, and return its path.

    Args:
        out: where it is put.

    Raises:
        RuntimeError: where the build failed, with what it said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # from a copy: in the checkout setuptools takes up what an earlier build left, modules that are gone among it
        source = Path(scratch) / "source"
        shutil.copytree(ROOT / "lt_spark", source / "lt_spark", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy2(ROOT / name, source)
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", scratch, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the wheel cannot be built:\n{(done.stdout + done.stderr)[-2_000:]}")
        (built,) = Path(scratch).glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(built, out / built.name))


def zip_of(wheel: Path) -> Path:
    """Return the zip of a wheel, made beside it: ``lt_spark-0.1.0.zip`` of ``lt_spark-0.1.0-py3-none-any.whl``."""
    name, version = wheel.name.split("-")[:2]
    return Path(shutil.copy2(wheel, wheel.with_name(f"{name}-{version}.zip")))


def copy_entries(out: Path) -> None:
    """Put the jobs and the confs of the checkout into a folder, in place of what an earlier build left there."""
    for name in ("jobs", "conf"):
        shutil.rmtree(out / name, ignore_errors=True)
        unwanted = shutil.ignore_patterns(_OF_THIS_MACHINE, ".*", "__pycache__")
        shutil.copytree(ROOT / name, out / name, ignore=unwanted)


def main(argv: list[str] | None = None) -> int:
    """Build all; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the wheel, the zip for --py-files, the jobs and the confs.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out: Path = parser.parse_args(argv).out
    try:
        wheel = build_wheel(out)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    archive = zip_of(wheel)
    copy_entries(out)
    print(f"{wheel}: pip install it into the environment of driver and executors")
    print(f"{archive}: or hand it to spark-submit --py-files")
    print(f"{out / 'jobs'}, {out / 'conf'}: what spark-submit runs, and its settings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
