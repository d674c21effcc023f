from pathlib import Path

import pytest

from lt_spark.core.errors import ConfigError
from lt_spark.engines import placement

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("address", "visible", "n_visible", "index"),
    [
        ("1", None, 2, 1),
        ("1", "", 2, 1),
        ("3", "2,3", 2, 1),  # the script counts the host's GPUs
        ("0", "3", 1, 0),  # the script counts those that the cluster left
        ("1", "1,0", 2, 0),
        ("GPU-b2", "GPU-a1,GPU-b2", 2, 1),
        ("GPU-b2c3d4", "GPU-a1,GPU-b2", 2, 1),
        ("GPU-b2", "5", 1, 0),
    ],
)
def test_the_address_is_found_among_the_visible(address: str, visible: str | None, n_visible: int, index: int) -> None:
    assert placement.visible_index(address, visible, n_visible) == index


@pytest.mark.parametrize(("address", "visible", "n_visible"), [("7", "2,3", 2), ("GPU-c3", "GPU-a1,GPU-b2", 2)])
def test_a_gpu_that_is_not_visible_is_an_error(address: str, visible: str, n_visible: int) -> None:
    with pytest.raises(ConfigError, match=f"GPU {address} is not among the 2.*CUDA_VISIBLE_DEVICES={visible}"):
        placement.visible_index(address, visible, n_visible)


def _as_task(monkeypatch: pytest.MonkeyPatch, address: str | None, n_gpus: int, in_task: bool = True) -> None:
    monkeypatch.setattr(placement, "gpu_address", lambda: address)
    monkeypatch.setattr(placement, "_in_task", lambda: in_task)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_task_takes_the_gpu_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_task(monkeypatch, "1", 2)
    assert placement.device("auto") == "cuda:1"
    assert placement.device("cuda") == "cuda:1"
    assert placement.device("cpu") == "cpu"


def test_a_task_without_a_gpu_takes_none_unless_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_task(monkeypatch, None, 2)
    assert placement.device("auto") == "cpu"
    assert placement.device("cuda") == "cuda:0"


@pytest.mark.parametrize(("n_gpus", "device"), [(1, "cuda:0"), (0, "cpu")])
def test_a_task_that_has_the_machine_to_itself_takes_its_gpu(
    monkeypatch: pytest.MonkeyPatch, n_gpus: int, device: str
) -> None:
    _as_task(monkeypatch, None, n_gpus)
    monkeypatch.setattr(placement, "_has_machine_gpu", lambda: True)
    assert placement.device("auto") == device


def test_outside_of_a_task_the_first_gpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_task(monkeypatch, None, 1, in_task=False)
    assert placement.device("auto") == "cuda:0"


@pytest.mark.parametrize(("kind", "address"), [("cuda", None), ("auto", "0")])
def test_no_cuda_where_it_is_needed_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, kind: str, address: str | None
) -> None:
    _as_task(monkeypatch, address, 0)
    with pytest.raises(ConfigError, match="set language_model.device: cpu"):
        placement.device(kind)  # type: ignore[arg-type]


def test_no_task_has_no_address() -> None:
    pytest.importorskip("pyspark")
    assert placement.gpu_address() is None


def test_dtype_on_a_cpu_goes_by_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "cpu_flags", lambda: {"avx2", "avx512f"})
    assert placement.dtype("auto", "cpu") == "float32"
    assert placement.dtype("bfloat16", "cpu") == "bfloat16"
    for flag in ("avx512_bf16", "amx_bf16"):
        monkeypatch.setattr(placement, "cpu_flags", lambda flag=flag: {flag})
        assert placement.dtype("auto", "cpu") == "bfloat16"


@pytest.mark.parametrize(
    ("capability", "dtype"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")]
)
def test_dtype_on_a_gpu_goes_by_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert placement.dtype("auto", "cuda:1") == dtype


def test_cpu_flags(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: X\nflags\t\t: fpu avx512_bf16\nflags\t\t: other\n")
    assert placement.cpu_flags(str(file)) == {"fpu", "avx512_bf16"}
    assert placement.cpu_flags(str(tmp_path / "none")) == set()
