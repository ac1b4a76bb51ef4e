"""Work on strangers' files, each item in a process of its own.

Hand-written on purpose (dense mechanism); `nbs/curation/02_isolation.ipynb` explains it and `tests/test_curation_isolate.py` proves it.
A fresh interpreter per item (0.1 s plus the imports of the function's module) instead of `multiprocessing`: nothing is forked, so no thread can be
harmed; the caller's script is not imported again, so it needs no `__main__` guard; and it is the same on every system.
"""

__all__ = ["isolated", "progress", "default_workers"]

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import time

_channel = None  # in a child: where messages to the parent go
_last_told = 0.0


def default_workers() -> int:
    "How many processes this machine runs well: the cores that this process may use."
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def progress(
    share=None,  # of the item done, 0 to 1, where known
):
    "Called by isolated functions now and then: says that the work goes on. Outside an isolated process it does nothing."
    global _last_told
    if _channel is not None and time.monotonic() - _last_told > 0.2:
        _last_told = time.monotonic()
        _tell("progress", share)


def isolated(
    function,        # importable (defined in a module, not in a notebook); takes one item
    items,           # what to work on; items and results are pickled between the processes, never to disk
    workers=None,    # processes at once; None: the cores there are
    quiet_s=120.0,   # an item that says nothing for so long (see `progress`) is stopped; seconds, or a function of the item
    total_s=None,    # an item that takes so long is stopped, whatever it says; seconds, or a function of the item; None: no limit
    on_progress=None # called as on_progress(item, share) whenever an item says something
):
    "Yields `(item, result, problem)` as items end; the problem is '' or one line (an exception, a crash, a hang, a kill)."
    if function.__module__ in (None, "__main__") or "<" in function.__qualname__:
        raise TypeError(f"{function.__qualname__} cannot run in another process: define it in a module and import it from there")
    waiting, running, ended = list(items)[::-1], set(), queue.Queue()
    try:
        while waiting or running:
            while waiting and len(running) < max(1, workers or default_workers()):
                running.add(_Job(function, waiting.pop(), ended, on_progress))
            for job in running:
                job.check(quiet_s, total_s)
            try:
                job = ended.get(timeout=0.1)
            except queue.Empty:
                continue
            running.discard(job)
            yield job.item, job.result, job.problem
    finally:
        for job in running:
            job.stop("")


class _Job:
    "One item in its process, with a thread that listens to it."

    def __init__(self, function, item, ended, on_progress):
        self.item, self.result, self.problem, self.stopped = item, None, "", None
        self.ended, self.on_progress = ended, on_progress
        code = "import sys; sys.path[:] = {!r}; from babyvlm.curation.isolate import _child; _child()".format(sys.path)
        environment = {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "ARROW")}}
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, env=environment, start_new_session=True)
        self.started = self.heard = time.monotonic()
        self.task = pickle.dumps((function.__module__, function.__qualname__, item))
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        "Until the process ends: take its messages; then say how it ended."
        answer = None
        try:
            _write(self.process.stdin, self.task)
            while (message := _read(self.process.stdout)) is not None:
                kind, value = pickle.loads(message)
                self.heard = time.monotonic()
                if kind != "progress":
                    answer = kind, value
                elif self.on_progress:
                    self.on_progress(self.item, value)
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            pass
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            _close(pipe)
        if answer and answer[0] == "result":
            self.result = answer[1]
        else:
            self.problem = self.stopped or (answer[1] if answer else _how_it_ended(code))
        self.ended.put(self)

    def check(self, quiet_s, total_s):
        quiet_s, total_s = (limit(self.item) if callable(limit) else limit for limit in (quiet_s, total_s))
        now = time.monotonic()
        if now - self.heard > quiet_s:
            self.stop(f"hung: no progress for {quiet_s:g} s, stopped")
        elif total_s and now - self.started > total_s:
            self.stop(f"too slow: not done after {total_s:g} s, stopped")

    def stop(self, why):
        if self.stopped is None:
            self.stopped = why
            self.process.kill()


def _how_it_ended(code):
    "One line about a process that ended without an answer."
    if code >= 0:
        return f"crashed: its process ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"crashed: its process was killed ({name}{', perhaps out of memory' if name == 'SIGKILL' else ''})"


def _close(pipe):
    try:
        pipe.close()
    except OSError:
        pass


def _write(pipe, data):
    pipe.write(struct.pack("<Q", len(data)) + data)
    pipe.flush()


def _read(pipe):
    "One message, or None at the end of the pipe."
    head = pipe.read(8)
    if len(head) < 8:
        return None
    size, = struct.unpack("<Q", head)
    data = pipe.read(size)
    return data if len(data) == size else None


# ------------------------------------------------------------------ inside the child

def _tell(kind, value):
    _write(_channel, pickle.dumps((kind, value)))


def _die_with_parent():
    "Ends this process at once when the parent has gone: its end of our input closes then."
    sys.stdin.buffer.read(1)
    os._exit(1)


def _be_expendable():
    "No core files, and the first choice of the out-of-memory killer."
    try:
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except (ImportError, OSError, ValueError):
        pass


def _child():
    "Reads one task, runs it, tells the result or the exception."
    global _channel
    _channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not mix with our messages
    _be_expendable()
    module, name, item = pickle.loads(_read(sys.stdin.buffer))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        import importlib
        function = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
        _tell("result", function(item))
    except BaseException as error:
        said = " ".join(str(error).split())
        _tell("problem", f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__)
    _channel.flush()
    os._exit(0)
