"""One device, eight devices, two processes of four: the same chains and the same statistics, bit for bit."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.engine.plan import hosts

# Ten blocks: eight devices take two each, six of them padding.
RUN = """
import sys
import jax
import numpy as np
import sgdsim as ss
folder, several = sys.argv[1], len(sys.argv) > 2
if several:
    assert ss.use_all_hosts() == 2
problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
def run(**rest):
    return ss.simulate(problem, ss.SGD(0.3, momentum=0.5), batch_size=16, chains=40_000, steps=60, burn_in=20, seed=3,
                       record=[0, 30], statistics=[ss.statistics.Moments()], **rest)
result = run(checkpoint=ss.Checkpoint(folder + "/run", steps=1)) if several else run()
assert len(result.provenance["devices"]) == 8, result.provenance["devices"]
assert result.provenance["hosts"] == (2 if several else 1)
np.savez(f"{folder}/{jax.process_index()}.npz", final=result.final, mean=result.mean, covariance=result.covariance,
         covariance_stderr=result.covariance_stderr, kurtosis=result.kurtosis, rhat=result.rhat, ess=result.ess,
         snapshots=result.snapshots, series=result.record["covariance"])
"""


@pytest.fixture(scope="module")
def one():
    problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
    return ss.simulate(problem, ss.SGD(0.3, momentum=0.5), batch_size=16, chains=40_000, steps=60, burn_in=20, seed=3,
                       record=[0, 30], statistics=[ss.statistics.Moments()], devices=1)


def several(process, port):
    """What tells a process which of two it is."""
    return {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(process)}


def python(script, *arguments, **environment):
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], env=os.environ | environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start(tmp_path, devices, process=None, port=0, script=RUN):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    if process is None:
        return python(script, tmp_path, XLA_FLAGS=flags)
    return python(script, tmp_path, "several", XLA_FLAGS=flags, **several(process, port))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def finish(*processes):
    """What each printed; none may fail or be left behind."""
    printed = []
    try:
        for process in processes:
            out, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
            printed.append(out)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return printed


def assert_same(path, result):
    found = np.load(path)
    assert len(found.files) == 9
    for name in found:
        truth = result.record["covariance"] if name == "series" else getattr(result, name)
        np.testing.assert_array_equal(found[name], truth, err_msg=name)


@pytest.mark.cpu
@pytest.mark.slow
def test_eight_devices_give_the_bits_of_one(tmp_path, one):
    finish(start(tmp_path, 8))
    assert_same(tmp_path / "0.npz", one)


@pytest.mark.cpu
def test_two_processes_of_four_devices_give_the_bits_of_one(tmp_path, one):
    """And the first of them leaves a checkpoint, from which one process goes on."""
    port = free_port()
    finish(*(start(tmp_path, 4, process, port) for process in (0, 1)))
    for process in (0, 1):
        assert_same(tmp_path / f"{process}.npz", one)
    problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
    rest = ss.simulate(problem, ss.SGD(0.3, momentum=0.5), batch_size=16, chains=40_000, steps=60, burn_in=20, seed=3,
                       record=[0, 30], statistics=[ss.statistics.Moments()], checkpoint=tmp_path / "run")
    assert rest.provenance["resumed_from_step"] == 60
    np.testing.assert_array_equal(rest.final, one.final)


MANY = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=64 --xla_llvm_disable_expensive_passes=true"
import numpy as np
import sgdsim as ss
from sgdsim.engine.plan import blocks
from sgdsim.engine.run import collector

blocks._BLOCK_CHAINS["cpu"] = 64  # 64 blocks of few chains
real, gathered = collector.fetch, []

def run(devices):
    problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
    result = ss.simulate(problem, ss.SGD(0.3, momentum=0.5), batch_size=16, chains=4090, steps=60, burn_in=20, seed=3,
                         record=[0, 30], devices=devices)
    assert result.provenance["blocks"] == 64 and len(result.provenance["devices"]) == devices
    names = ("mean", "covariance", "covariance_stderr", "kurtosis", "rhat", "ess", "snapshots", "final", "train_loss")
    return [getattr(result, name) for name in names] + [result.record["covariance"]]

def of_64_processes(array, cut=slice(None)):
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    parts = [np.asarray(shard.data)[cut] for shard in shards]  # what each process holds, and what all gather
    gathered.append(len(parts))
    return np.concatenate(parts)

one = run(1)
collector.fetch = of_64_processes
many = run(64)
assert gathered and set(gathered) == {64}
for a, b in zip(one, many, strict=True):
    np.testing.assert_array_equal(a, b)
print("same", sum(np.size(a) for a in one))
"""


@pytest.mark.cpu
def test_the_blocks_of_64_processes_merge_to_the_bits_of_one():
    """Each process of this machine's one is a virtual device that holds one block; nothing is sent."""
    process = subprocess.Popen([sys.executable, "-c", MANY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert finish(process)[0].startswith("same")


INTERRUPTED = RUN.replace("steps=60", "steps=1_000_000_000").replace("record=[0, 30], ", "").replace(
    "import jax\n", """import jax
from sgdsim.engine.run import loop
real = loop.advance
def advance(*args, **kwargs):
    print("segment", flush=True)
    return real(*args, **kwargs)
loop.advance = advance
""").split("np.savez")[0] + """
assert result.status == "interrupted" and 0 < result.provenance["steps_done"] < 10**9
print(result.provenance["steps_done"])
"""


COMMAND = """
import sys
import sgdsim as ss
from sgdsim.cli import app as cli  # noqa: E402
from sgdsim.experiments.framework.findings import Findings
from sgdsim.experiments.framework.registry import experiment

@experiment("small", "The run of this file", "nowhere")
def small(scale):
    problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
    result = ss.simulate(problem, ss.SGD(0.3, momentum=0.5), batch_size=16, chains=40_000, steps=60, burn_in=20, seed=3,
                         record=[0, 30], statistics=[ss.statistics.Moments()])
    names = ("mean", "covariance", "covariance_stderr", "kurtosis", "rhat", "ess", "snapshots", "final")
    values = {name: getattr(result, name) for name in names}
    data = {name: (tuple(f"{name}{i}" for i in range(value.ndim)), value) for name, value in values.items()}
    return Findings([], data, [], provenance={name: result.provenance[name] for name in ("hosts", "devices")})

cli.app(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_command_line_on_two_hosts_writes_once_and_the_bits_of_one(tmp_path, one):
    """Each process is told a folder of its own, so that what the second one writes could not hide."""
    for name in ("typer", "matplotlib", "h5netcdf", "xarray"):
        pytest.importorskip(name)
    port, folders = free_port(), [tmp_path / "first", tmp_path / "second"]
    (tmp_path / "scratch").mkdir()
    both = [python(COMMAND, "reproduce", "small", "--hosts", "--output", folder, TMPDIR=str(tmp_path / "scratch"),
                   **several(process, port))
            for process, folder in enumerate(folders)]
    said = finish(*both)
    assert "report.html" in said[0] and "report.html" not in said[1]
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {f"first/{name}" for name in
                     ("report.html", "small/data.json", "small/data.nc", "small/section.json")}
    written = json.loads((folders[0] / "small" / "data.json").read_text())
    assert written["provenance"]["hosts"] == 2 and len(written["provenance"]["devices"]) >= 2
    assert len(written["data"]) == 8
    for name, entry in written["data"].items():
        truth = getattr(one, name)
        np.testing.assert_array_equal(np.array(entry["values"], truth.dtype), truth, err_msg=name)


@pytest.mark.slow
def test_ctrl_c_on_one_host_stops_all_at_the_same_step(tmp_path):
    port = free_port()
    both = [start(tmp_path, 4, process, port, INTERRUPTED) for process in (0, 1)]
    for process in both:
        while process.stdout.readline() != "segment\n":
            assert process.poll() is None, process.stderr.read()
    both[1].send_signal(signal.SIGINT)
    said = []
    try:
        for process in both:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            said.append(out.split()[-1])
    finally:
        for process in both:
            process.kill()
    assert said[0] == said[1]


def test_without_a_launcher_the_message_says_what_to_set(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)

    def unknown(**given):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(hosts.jax.distributed, "initialize", unknown)
    with pytest.raises(ValueError, match=r"launcher is None.*JAX_COORDINATOR_ADDRESS"):
        ss.use_all_hosts()
    monkeypatch.setenv("JAX_PROCESS_ID", "first")
    with pytest.raises(ValueError, match=r"first.*whole numbers"):
        ss.use_all_hosts()
