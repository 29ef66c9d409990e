"""The commands encode and decode: a folder of weights there and back, and what they refuse in one line."""

from pathlib import Path

import torch
from running import run_command
from safetensors.torch import save_file


def test_a_folder_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    weights = torch.randn(128, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"weight": weights}, tmp_path / "net" / "model.safetensors")
    (tmp_path / "net" / "config.json").write_text("{}")
    done = run_command("encode", "net", cwd=tmp_path)
    assert done.returncode == 0 and "written: net.dcz" in done.stdout, done.stderr
    assert "model.safetensors: 65," in done.stdout and "no weights" in done.stdout
    done = run_command("decode", "net.dcz", "--output", "back", cwd=tmp_path)
    assert done.returncode == 0 and "restored: back" in done.stdout, done.stderr
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "net" / name).read_bytes()
    for words, told in (
        (["encode"], "name a file or folder of weights"),
        (["decode", "net.dcz"], "name an --output: net is there"),
        (["encode", "net"], "net.dcz is there already"),
        (["decode", "net", "--output", "x"], "was not written by encode_checkpoint"),
    ):
        done = run_command(*words, cwd=tmp_path)
        assert done.returncode == 2 and told in " ".join(done.stderr.split()), done.stderr
