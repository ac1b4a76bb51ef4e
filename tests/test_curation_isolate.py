"""Each item in a process of its own: what ends one harms no other."""

import os
import subprocess
import sys
import time
from pathlib import Path

import curation_films
import pytest
from babyvlm.curation.isolate import isolated, progress

HERE = str(Path(__file__).parent)


def test_every_way_to_end_costs_one_item():
    kinds = ["segfault", "exit", "loud", "large", "memory", "sleep", "fine"]
    ends = {item: (result, problem) for item, result, problem in isolated(curation_films.end, kinds, workers=4, quiet_s=lambda kind: 1.5 if kind == "sleep" else 60)}
    assert {kind for kind, (_, problem) in ends.items() if not problem} == {"loud", "large", "fine"}
    assert len(ends["large"][0]) == 20_000_000 and ends["memory"] == (None, "MemoryError")
    assert "SIGSEGV" in ends["segfault"][1] and "code 7" in ends["exit"][1] and "hung" in ends["sleep"][1]
    assert ends["fine"][0] not in (os.getpid(), ends["loud"][0])


def test_total_limit_and_leaving_early():
    assert "too slow" in next(isolated(curation_films.end, ["sleep"], quiet_s=60, total_s=0.5))[2]
    started, some = time.monotonic(), isolated(curation_films.end, ["fine", "sleep", "sleep"], workers=3)
    assert next(some)[0] == "fine"
    some.close()
    assert time.monotonic() - started < 30 and progress() is None


def test_a_script_without_a_main_guard(tmp_path):
    code = f"import sys; sys.path[:0] = {[HERE, *sys.path]!r}\nfrom curation_films import end\nfrom babyvlm.curation.isolate import isolated\nprint(len(list(isolated(end, ['a', 'b']))))\n"
    (tmp_path / "script.py").write_text(code)
    assert subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=60).stdout == "2\n"
    assert subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, timeout=60).stdout == "2\n"


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_children_end_with_their_parent(how):
    code = (f"import sys; sys.path[:0] = {[HERE, *sys.path]!r}\nfrom curation_films import end\nfrom babyvlm.curation import isolate\n"
            "job = isolate._Job\nclass Told(job):\n def listen(self): print(self.process.pid, flush=True); super().listen()\nisolate._Job = Told\n"
            "list(isolate.isolated(end, ['sleep']))")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    getattr(parent, how)()
    parent.wait()
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
