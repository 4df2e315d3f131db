"""The loop: interrupted, killed or divided over processes, a run computes the same losses."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import torch

from mobilesam_export.distillation import loop
from mobilesam_export.distillation.processes import _part, join_processes
from mobilesam_export.distillation.state import RunFolder
from mobilesam_export.errors import DistillationError, MeasurementError, UsageError
from tests.cli_runner import warm_processes
from tests.distillation_parts import ONE, run

STEPS = 6
WRITES = 9  # of a run of six steps that saves after each: more than are left after a kill


class Killed(BaseException):
    """Ends a run where a signal 9 would: nothing after it is done."""


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Of a run that nothing has disturbed."""
    whole = run(tmp_path_factory.mktemp("whole"), ONE)
    whole.train()
    assert len(whole.log.losses) == STEPS
    assert whole.log.losses[-1] < whole.log.losses[0]
    return whole.log.losses


def test_after_ctrl_c_a_run_goes_on_with_the_same_losses(
    tmp_path: Path, losses: list[float]
) -> None:
    calls: list[int] = []

    def interrupt(_: int) -> None:
        calls.append(1)
        if len(calls) == 4:  # in the second step, whose batch has two images
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(DistillationError, match="interrupted after step 2 of 6; the same command"):
        run(tmp_path, ONE, on_call=interrupt).train()
    resumed = run(tmp_path, ONE)
    assert resumed.trainer.step == 2
    resumed.train()
    assert resumed.log.losses == losses


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # ignored, where tests run as a job in the background
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, ONE, on_call=interrupt).train()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", range(0, 2 * WRITES, 3))
def test_killed_while_it_writes_a_run_goes_on_with_the_same_losses(
    number: int, tmp_path: Path, losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    left = [number]
    replace = Path.replace

    def replace_or_die(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_or_die)
        with pytest.raises(Killed):
            run(tmp_path, ONE).train()
    resumed = run(tmp_path, ONE)
    resumed.train()
    assert resumed.log.losses == losses


def test_a_run_with_other_options_or_a_damaged_state_is_refused(tmp_path: Path) -> None:
    run(tmp_path, ONE, steps=1).train()
    with pytest.raises(UsageError, match="is a run with another steps; repeat its options"):
        run(tmp_path, ONE, steps=2)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:-500])
    with pytest.raises(MeasurementError, match="is damaged; delete its folder"):
        run(tmp_path, ONE, steps=1)


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "a", {}), RunFolder(tmp_path / "a", {})
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".state.part7.pt").write_text("left by a killed process")
    with first.locked():
        assert not list((tmp_path / "a").iterdir())
        with pytest.raises(UsageError, match="another process trains in"), second.locked():
            pass
    with second.locked():
        pass


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def train_divided(rank: int, port: int, folder: Path) -> None:
    """What `torchrun` starts: it sets these variables."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    with join_processes("cpu") as processes:
        divided = run(folder, processes)
        (batch,) = divided.steps.load(0, 1, readers=0)
        expected = divided.embedder.embed(batch.pixels, batch.keys)
        divided.trainer.compute_gradients(batch.pixels, expected)
        gradients = [p.grad for p in divided.trainer.encoder.parameters()]
        torch.save(gradients, folder / f"gradients-{rank}.pt")
        divided.train()


def part_alone(port: int) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "1", "RANK": "0"}
    os.environ.update(place)
    torch.distributed.init_process_group("gloo")
    threads = set(Path("/proc/self/task").iterdir())
    _part()
    assert not torch.distributed.is_initialized()
    assert threads <= set(Path("/proc/self/task").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/task is Linux's")
def test_a_group_is_left_without_waiting_for_its_threads() -> None:
    """They may wait for the interpreter, which its destructor would hold."""
    process = warm_processes.Process(target=part_alone, args=(free_port(),))
    process.start()
    process.join(600)
    process.kill()
    assert process.exitcode == 0


def test_two_processes_compute_what_one_does(tmp_path: Path, losses: list[float]) -> None:
    port = free_port()
    started = [
        warm_processes.Process(target=train_divided, args=(rank, port, tmp_path))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(600)
        process.kill()  # one that waits for ever would keep the tests from ending
    assert [process.exitcode for process in started] == [0, 0]
    whole = run(tmp_path / "none", ONE)
    (batch,) = whole.steps.load(0, 1, readers=0)
    whole.trainer.compute_gradients(batch.pixels, whole.embedder.embed(batch.pixels, batch.keys))
    for rank in range(2):
        gradients = torch.load(tmp_path / f"gradients-{rank}.pt")
        for found, parameter in zip(gradients, whole.trainer.encoder.parameters(), strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(found, parameter.grad)
    assert run(tmp_path, ONE).log.losses == pytest.approx(losses, rel=1e-5)
    shards = {path.name[0] for path in (tmp_path / "embeddings").glob("*.safetensors")}
    assert shards == {"0", "1"}
