"""The speed table through its real entry point; what is missing is skipped by name."""

import subprocess
import sys


def test_smoke_without_data(tmp_path) -> None:
    call = [sys.executable, "-m", "analysis.speed", "--smoke", "--data", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "skipped: MNIST" in done.stdout and "ratio" in done.stdout
