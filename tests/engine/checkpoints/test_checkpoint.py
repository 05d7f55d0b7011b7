import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.engine.checkpoints import identity
from sgdsim.engine.plan.request import check_request
from sgdsim.engine.run import loop

PROBLEM = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
OPTIMIZER = ss.SGD(0.3, momentum=0.5)
RUN = {"batch_size": 16, "chains": 300, "steps": 400, "burn_in": 100, "record": [0, 5, 200]}


def same(a, b):
    """States, totals, series, snapshots: bit for bit."""
    np.testing.assert_equal(a.quantities, b.quantities)
    for field in dataclasses.fields(a):
        if field.name not in ("provenance", "record", "quantities"):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)
    assert (a.record or {}).keys() == (b.record or {}).keys()
    for name, series in (a.record or {}).items():
        np.testing.assert_array_equal(series, b.record[name], err_msg=name)


def run(**changes):
    settings = RUN | changes
    return ss.simulate(settings.pop("problem", PROBLEM), settings.pop("optimizer", OPTIMIZER), **settings)


@pytest.fixture
def interrupt_after(monkeypatch):
    """`interrupt_after(n)`: Ctrl-C after n segments; None: never."""
    real = loop.advance

    def arm(segments):
        calls = []

        def advance(*args, **kwargs):
            calls.append(1)
            if segments is not None and len(calls) > segments:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(loop, "advance", advance)

    return arm


@pytest.fixture(scope="module")
def whole():
    return run()


@pytest.mark.cpu
@pytest.mark.parametrize("passes", [None, 2])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, whole, interrupt_after, passes):
    """On another number of devices, and in the middle of a second pass too."""
    begun = None
    for segments, devices in ((5, 1), (3, 2), (9, 1)) if passes is None else ((12, None), (3, None), (9, None)):
        interrupt_after(segments)
        part = run(checkpoint=tmp_path, devices=devices, passes=passes)
        assert part.status == "interrupted" and part.provenance["stopped"] == "interrupted"
        assert part.provenance["resumed_from_step"] == begun
        begun = part.provenance["steps_done"]
    interrupt_after(None)
    rest = run(checkpoint=tmp_path, passes="auto" if passes else None)
    assert rest.status == "ok" and rest.provenance["resumed_from_step"] == begun
    assert rest.provenance["passes"] == (passes or 1)
    same(rest, whole)
    again = run(checkpoint=ss.Checkpoint(tmp_path), passes=passes)
    assert again.provenance["resumed_from_step"] == RUN["steps"]
    same(again, whole)


def test_a_sweep_goes_on_to_the_same_bits(tmp_path, interrupt_after):
    grid = {"batch_size": [16, 64], "chains": 300, "steps": 100, "burn_in": 20, "record": [50],
            "statistics": [ss.statistics.Losses()]}
    whole = ss.sweep(PROBLEM, ss.Adam(0.1), **grid)
    interrupt_after(6)
    ss.sweep(PROBLEM, ss.Adam(0.1), **grid, checkpoint=tmp_path)
    interrupt_after(None)
    rest = ss.sweep(PROBLEM, ss.Adam(0.1), **grid, checkpoint=tmp_path)
    assert 0 < rest.results[0].provenance["resumed_from_step"] < 100
    for a, b in zip(rest.results, whole.results, strict=True):
        same(a, b)


def test_memories_and_states_in_half_the_bits_go_on_too(tmp_path, interrupt_after):
    """NumPy's files know nothing of JAX's bfloat16."""
    how = {"optimizer": optax.adam(0.1, mu_dtype=jnp.bfloat16), "statistics": [ss.statistics.Autocovariance([0, 5])]}
    whole = run(**how)
    interrupt_after(6)
    run(**how, checkpoint=tmp_path)
    interrupt_after(None)
    rest = run(**how, checkpoint=tmp_path)
    assert 0 < rest.provenance["resumed_from_step"] < RUN["steps"]
    same(rest, whole)


def newest(folder):
    return sorted(folder.glob("pass_0000/step_*.json"))[-1]


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "manifest", "manifest cut"])
def test_a_damaged_checkpoint_is_refused_and_the_previous_one_used(tmp_path, whole, interrupt_after, harm):
    interrupt_after(6)
    run(checkpoint=ss.Checkpoint(tmp_path, steps=1))
    manifest = newest(tmp_path)
    before = json.loads(sorted(manifest.parent.glob("*.json"))[-2].read_text())["content"]["step"]
    arrays = manifest.with_suffix(".npz")
    {
        "flip": lambda: flip_a_byte(arrays),
        "truncate": lambda: os.truncate(arrays, arrays.stat().st_size // 2),
        "remove": arrays.unlink,
        "manifest": lambda: manifest.write_text(manifest.read_text().replace('"step": ', '"step": 1')),
        "manifest cut": lambda: os.truncate(manifest, 100),
    }[harm]()
    interrupt_after(None)
    with pytest.warns(RuntimeWarning, match=f"damaged checkpoint: .*going on from step {before}"):
        rest = run(checkpoint=tmp_path)
    assert rest.provenance["resumed_from_step"] == before
    same(rest, whole)


def test_nothing_is_run_from_damaged_checkpoints_alone(tmp_path):
    run(checkpoint=ss.Checkpoint(tmp_path, keep=1))
    newest(tmp_path).with_suffix(".npz").unlink()
    with pytest.raises(ValueError, match=r"undamaged .*missing.*remove the folder"):
        run(checkpoint=tmp_path)


OTHER = {
    "problem": {"problem": ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.6)},
    "optimizer": {"optimizer": ss.SGD(0.3)},
    "batch_size": {"batch_size": 17},
    "seed": {"seed": 1},
    "chains": {"chains": 301},
    "steps": {"steps": 401},
    "burn_in": {"burn_in": 99},
    "statistics": {"statistics": [ss.statistics.Losses()]},
    "record": {"record": [0, 6]},
    "initial": {"initial": [1.0, 0.0]},
    "dtype": {"dtype": "float64"},
    "target_stderr": {"target_stderr": 0.1},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(checkpoint=folder)
    return folder


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_of_another_run_is_refused_by_name(finished, name):
    with pytest.raises(ValueError, match=f"differs in .*{name} .*there"):
        run(checkpoint=finished, **OTHER[name])


def test_a_checkpoint_of_other_versions_is_refused(finished, monkeypatch):
    monkeypatch.setattr(identity, "__version__", "0.0.1")
    with pytest.raises(ValueError, match=r"differs in versions \(sgdsim .*there, sgdsim 0.0.1"):
        run(checkpoint=finished)


def test_functions_count_by_what_they_do():
    def rate(scale):
        return lambda t: scale / (1 + t)

    def said(optimizer):
        return identity.identity(check_request(PROBLEM, optimizer, chains=4, steps=10), PROBLEM, "cpu", {})

    # By name they are alike: test_identity.py holds that their programs differ.
    one, same_one, other = (said(ss.SGD(rate(scale))) for scale in (0.1, 0.1, 0.2))
    assert one == same_one == other
    one, other = (said(ss.SGD(scale)) for scale in (0.1, 0.2))
    assert {name for name in one if one[name] != other[name]} == {"optimizer"}


def test_a_full_disk_costs_a_warning_and_no_result(tmp_path, whole):
    """A file may not grow beyond one byte: the kernel refuses the write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    spec = ss.Checkpoint(tmp_path, steps=1)
    with pytest.warns(RuntimeWarning, match="no checkpoint was written in .*the run goes on"):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
            result = run(checkpoint=spec)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.status == "ok"
    same(result, whole)
    assert not list(tmp_path.rglob("step_*"))


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_run(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", "/proc/nowhere"):
        with pytest.raises(ValueError, match=r"checkpoint is .*a folder that can be written to"):
            run(checkpoint=path)


LIVES = """
import os, sys
import numpy as np
import sgdsim as ss
from sgdsim.engine.run import loop

def live():
    real, seen = loop.advance, []
    def advance(*args, **kwargs):
        found = real(*args, **kwargs)
        if not seen:
            print("step", flush=True)
        seen.append(1)
        return found
    loop.advance = advance
    problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
    result = ss.simulate(problem, ss.SGD(0.3, momentum=0.5), batch_size=16, chains=300, steps=3000, burn_in=100,
                         record=list(range(0, 3000, 25)), statistics=[ss.statistics.Moments()],
                         checkpoint=ss.Checkpoint(sys.argv[1], seconds=0.001, steps=1))
    np.savez(sys.argv[2], final=result.final, covariance=result.covariance, rhat=result.rhat,
             snapshots=result.snapshots, series=result.record["covariance"],
             begun=result.provenance["resumed_from_step"] or 0)

# Imported once: each life is a fork, made before JAX has started anything.
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        live()
        os._exit(0)
    print(child, flush=True)
    print("end", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def _survives(tmp_path, rng, kills):
    """Kill so often, at random moments after the first step of each life; a run that ends must equal a whole one."""
    whole = run(steps=3000, record=list(range(0, 3000, 25)), statistics=[ss.statistics.Moments()])
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
                                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    lives = subprocess.Popen([sys.executable, "-c", LIVES, tmp_path / "run", tmp_path / "end.npz"], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    killed, begun = 0, []
    with lives:
        while killed < kills or not begun:
            print("live", file=lives.stdin, flush=True)
            life = int(lives.stdout.readline())
            said = lives.stdout.readline()
            if said == "step\n":
                if killed < kills:
                    time.sleep(rng.uniform(0, 0.5))
                    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                        os.kill(life, signal.SIGKILL)
                said = lives.stdout.readline()
            assert said in ("end 0\n", "end -9\n")
            if said == "end -9\n":
                killed += 1
                continue
            end = np.load(tmp_path / "end.npz")
            begun.append(int(end["begun"]))
            for name in ("final", "covariance", "rhat", "snapshots"):
                np.testing.assert_array_equal(end[name], getattr(whole, name), err_msg=name)
            np.testing.assert_array_equal(end["series"], whole.record["covariance"])
            left = sorted(path.name for path in (tmp_path / "run" / "pass_0000").iterdir())
            assert len(left) == 4 and all("tmp" not in name and "partial" not in name for name in left), left
            shutil.rmtree(tmp_path / "run")
    assert killed == kills and max(begun) > 0, "no run was continued"


def test_a_run_survives_being_killed(tmp_path, rng):
    _survives(tmp_path, rng, 3)


@pytest.mark.slow
def test_a_run_survives_being_killed_twenty_times(tmp_path, rng):
    _survives(tmp_path, rng, 20)
