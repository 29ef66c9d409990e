"""The speed table through its real entry point; what is missing is skipped by name."""

from running import run_command


def test_smoke_without_data(tmp_path) -> None:
    done = run_command("speed", "--smoke", "--data", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "skipped: MNIST" in done.stdout and "peer / ours" in done.stdout
    assert "skipped: mnist" in done.stdout and "of normal weights, bfloat16" in done.stdout
    assert "start: help of a command" in done.stdout and "skipped: processes" in done.stdout


def test_only_some_rows(tmp_path) -> None:
    done = run_command("speed", "--smoke", "--only", "needs", "decoders", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "requirement of 600 x 784" in done.stdout and "decoder of" in done.stdout
    assert "global mask" not in done.stdout and "int8" not in done.stdout
    assert done.stdout.index("requirement of") < done.stdout.rindex("capacity of a decoder")


def test_seeds_together_and_steps_in_half_precision(tmp_path) -> None:
    done = run_command(
        "speed",
        "--smoke",
        "--only",
        "ensembles",
        "precision",
        "--data",
        str(tmp_path),
        "--wide",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "seeds of the digits network, trained together" in done.stdout and "skipped: MNIST" in done.stdout
    half = "steps of resnet20, channels last and bfloat16" in done.stdout
    assert half != ("skipped: this processor has no bfloat16" in done.stdout)


def test_without_nncodec_it_is_named(tmp_path) -> None:
    done = run_command("speed", "--smoke", "--only", "peer-files", "peer-rates", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("skipped: NNCodec") == 2 and "--nncodec PYTHON" in done.stdout
