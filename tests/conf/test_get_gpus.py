"""conf/get_gpus.sh beside a stand-in of nvidia-smi."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "conf" / "get_gpus.sh"
TWO = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bb)
"""
SPLIT = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa)
  MIG 3g.20gb     Device  0: (UUID: MIG-11111111-aaaa)
  MIG 3g.20gb     Device  1: (UUID: MIG-22222222-bbbb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bb)
"""


def ask(folder: Path, says: str | None, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the script where nvidia-smi says so; None: there is none."""
    for name in ("bash", "hostname", "env"):
        (folder / name).symlink_to(str(shutil.which(name)))
    if says is not None:
        (folder / "said").write_text(says)
        fake = folder / "nvidia-smi"
        fake.write_text(f'#!/bin/bash\n[ "$*" = -L ] || exit 9\nprintf "%s\\n" "$(<{folder}/said)"\nexit {code}\n')
        fake.chmod(0o755)
    return subprocess.run([SCRIPT], capture_output=True, text=True, env={"PATH": str(folder)}, check=False)


@pytest.mark.parametrize(
    ("says", "addresses"),
    [(TWO, ["0", "1"]), (TWO.splitlines()[0], ["0"]), (SPLIT, ["MIG-11111111-aaaa", "MIG-22222222-bbbb", "1"])],
)
def test_addresses_are_told_as_spark_reads_them(tmp_path: Path, says: str, addresses: list[str]) -> None:
    done = ask(tmp_path, says)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == {"name": "gpu", "addresses": addresses}


@pytest.mark.parametrize(
    ("says", "code", "told"),
    [
        (None, 0, "expected nvidia-smi in the PATH, found none"),
        ("NVIDIA-SMI has failed: no driver", 9, "nvidia-smi -L failed: NVIDIA-SMI has failed: no driver."),
        ("No devices found", 0, "found: No devices found."),
        ("", 0, "found: nothing."),
    ],
)
def test_a_failure_says_why_and_names_the_node(tmp_path: Path, says: str | None, code: int, told: str) -> None:
    done = ask(tmp_path, says, code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("get_gpus.sh on ") and told in done.stderr
