"""Scoring scripts that misbehave: while they are loaded, where they score ``c.txt``, or in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import dedent, indent

TEMPLATE = """\
import os
import sys
{top}

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    with open({calls}, "a", errors="backslashreplace") as calls:
        calls.write(" ".join(names) + "\\n")
    rows = [name.removesuffix(".txt") + " scored" for name in names]
{body}
    return rows
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a script does, and what is to come of it.

    Attributes:
        body: what `run` does with the mini-batch of ``c.txt`` and ``d.txt``.
        top: what stands at the top of the script.
        reason: a regular expression of what is said of the failure.
        detail: one of what the log of errors holds beside it.
        kind: how the attempts fail: error, crashed or timeout.
        attempts: how often the mini-batch is tried.
    """

    body: str = ""
    top: str = ""
    reason: str = ""
    detail: str = ""
    kind: str = "error"
    attempts: int = 2

    @property
    def script(self) -> str:
        """The text of the script."""
        body = indent(dedent(self.body).strip() or "pass", "    ")
        return scoring_script(f'if "c.txt" in names:\n{body}', top=self.top)


def scoring_script(body: str = "", *, top: str = "") -> str:
    """Write a script that scores each file, after a body that knows `names` and `rows`, and may return by itself.

    It appends the names of each mini-batch to the file ``$CALLS``.
    """
    calls = repr("CALLS")
    return TEMPLATE.format(
        top=dedent(top).strip(), body=indent(dedent(body).strip() or "pass", "    "), calls=f"os.environ[{calls}]"
    )


GATE = """
    while names[0] >= open(os.environ["GATE"]).read():
        time.sleep(0.01)
"""
"""The body of a script that scores no file from one on, which the file ``$GATE`` names: a job that is to be stopped
under way waits there for it, however slow whoever stops it is."""


def script_of_all(faults: Iterable[Fault]) -> str:
    """Write a script that has all these faults: the number of each begins the names of its files, ``00-c.txt``."""
    lines = []
    for number, fault in enumerate(faults):
        body = indent(dedent(fault.body).strip(), "    ")
        lines += [dedent(fault.top), f"def fault_{number:02}(mini_batch, names, rows):\n{body}\n    return rows\n"]
    body = "if names[0][3:] == 'c.txt':\n    return globals()['fault_' + names[0][:2]](mini_batch, names, rows)"
    return scoring_script(body, top="\n".join(lines))


FAILING = {
    "raises": Fault(
        body="raise ValueError('no prediction for ' + names[0])",
        reason=r"ValueError: no prediction for 00-c\.txt",
        detail=r'score\.py", line \d+, in fault_00',
    ),
    "sys.exit": Fault(body="sys.exit(4)", reason="SystemExit: 4", detail=r"in fault_\d+"),
    "quit without a word": Fault(body="raise SystemExit", reason="SystemExit$"),
    "KeyboardInterrupt": Fault(body="raise KeyboardInterrupt", reason="KeyboardInterrupt$"),
    "GeneratorExit": Fault(body="raise GeneratorExit", reason="GeneratorExit$"),
    "assertion without a text": Fault(body="assert not names", reason="AssertionError$"),
    "os._exit": Fault(body="os._exit(3)", reason=r"the worker process died \(exit code 3\)", kind="crashed"),
    "os._exit(0)": Fault(body="os._exit(0)", reason=r"the worker process died \(exit code 0\)", kind="crashed"),
    "another program": Fault(
        body="os.execv('/bin/sh', ['sh', '-c', 'exit 5'])",
        reason=r"the worker process died \(exit code 5\)",
        kind="crashed",
    ),
    "segfault": Fault(
        top="import ctypes",
        body="ctypes.string_at(0)",
        reason=r"the worker process died \(SIGSEGV\)",
        detail=r'score\.py", line \d+ in fault_\d+',
        kind="crashed",
    ),
    "abort": Fault(body="os.abort()", reason=r"the worker process died \(SIGABRT\)", kind="crashed"),
    "SIGKILL": Fault(
        body="os.kill(os.getpid(), 9)",
        reason=r"the worker process died \(SIGKILL, likely out of memory\)",
        kind="crashed",
    ),
    "SIGTERM": Fault(body="os.kill(os.getpid(), 15)", reason=r"the worker process died \(SIGTERM\)", kind="crashed"),
    "closes all descriptors": Fault(body="os.closerange(0, 1024)", reason="the worker process died", kind="crashed"),
    "dies with last words": Fault(
        body="sys.stderr.write('last words\\n'); sys.stderr.flush(); os._exit(3)",
        reason="exit code 3",
        detail="last words",
        kind="crashed",
    ),
    "hangs with a child": Fault(
        top="import subprocess", body="subprocess.run(['sleep', '600'])", reason=r"4 s", kind="timeout"
    ),
    "hangs below Python, deaf to signals": Fault(
        top="import ctypes, signal",
        body="signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); ctypes.PyDLL(None).sleep(600)",
        reason=r"4 s",
        kind="timeout",
    ),
    "endless generator": Fault(
        body="""
            def endless():
                while True:
                    yield numpy.empty(2**29, "u1")
            resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
            return endless()
        """,
        top="import numpy, resource",
        reason="MemoryError",
    ),
    "eats memory": Fault(
        top="import numpy, resource",
        body="""
            resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
            held = []
            while True:
                held.append(numpy.empty(2**29, "u1"))
        """,
        reason="MemoryError",
    ),
    "returns None": Fault(body="return None", reason=r"run\(\) should return a list or a DataFrame.* None"),
    "returns a str": Fault(body="return 'done'", reason=r"run\(\) should return a list or a DataFrame.* str"),
    "returns a dict": Fault(body="return {'c': 1}", reason=r"run\(\) should return a list or a DataFrame.* dict"),
    "returns a set": Fault(body="return {1, 2}", reason=r"run\(\) should return a list or a DataFrame.* set"),
    "returns a map": Fault(body="return map(str, rows)", reason=r"run\(\) should return a list or a DataFrame.* map"),
    "returns a number": Fault(
        top="import numpy", body="return numpy.float64(1)", reason=r"run\(\) should return a list or a DataFrame"
    ),
    "generator that raises": Fault(
        body="return (1 // (len(rows) - place) for place in range(9))", reason="ZeroDivisionError: "
    ),
    "row that cannot be written": Fault(
        top="""
            class Row:
                def __str__(self):
                    raise RuntimeError("no words")
        """,
        body="return [rows[0], Row()]",
        reason="RuntimeError: no words",
    ),
    "exception that cannot be pickled": Fault(
        top="""
            class Odd(Exception):
                def __init__(self, first, second):
                    super().__init__("odd")
                    self.lock = lambda: (first, second)
                def __reduce__(self):
                    raise TypeError("no pickle")
        """,
        body="raise Odd(1, 2)",
        reason="Odd: odd",
    ),
    "exception without words": Fault(
        top="""
            class Mute(Exception):
                def __str__(self):
                    raise RuntimeError("I cannot say")
        """,
        body="raise Mute()",
        reason="Mute",
        detail=r"in fault_\d+",
    ),
    "exception whose text is a number": Fault(
        top="""
            class Number(Exception):
                def __str__(self):
                    return 3
        """,
        body="raise Number()",
        reason="Number",
    ),
    "exception that says it all": Fault(body="raise ValueError('x' * 2**22)", reason="ValueError: xxxx"),
    "exception of many lines": Fault(
        body="raise ValueError('first\\nsecond\\udcff')", reason=r"ValueError: first[\s\S]second"
    ),
    "exception with a cause": Fault(
        body="""
            try:
                {}["key"]
            except KeyError as error:
                raise ValueError("no key") from error
        """,
        reason="ValueError: no key",
        detail="KeyError: 'key'[^$]*direct cause",
    ),
    "endless recursion": Fault(
        top="""
            def deeper(depth):
                return deeper(depth + 1)
        """,
        body="deeper(0)",
        reason="RecursionError: maximum recursion depth exceeded",
    ),
    "reads what is not there": Fault(body="open(mini_batch[0] + '.gone')", reason=r"FileNotFoundError: .*c\.txt\.gone"),
    "returns nothing": Fault(body="return []", reason=r"run\(\) returned no result", attempts=1),
    "returns an empty DataFrame": Fault(
        top="import pandas", body="return pandas.DataFrame({'a': []})", reason=r"run\(\) returned no result", attempts=1
    ),
}
"""What costs `c.txt` and `d.txt`, and nothing else."""

ONCE = """
    try:
        os.close(os.open(os.environ["MARK"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    else:
        {fault}
"""

CURED = {
    "raises once": Fault(body=ONCE.format(fault="raise ValueError('not yet')"), reason="ValueError: not yet"),
    "dies once": Fault(body=ONCE.format(fault="os._exit(3)"), reason="exit code 3", kind="crashed"),
    "hangs once": Fault(
        top="import time",
        body=ONCE.format(fault="time.sleep(600)"),
        reason="4 s",
        kind="timeout",
    ),
    "returns None once": Fault(body=ONCE.format(fault="return None"), reason="should return a list"),
}
"""What a second attempt makes good."""

HARMLESS = {
    "generator": Fault(body="return (row for row in rows)"),
    "array": Fault(top="import numpy", body="return numpy.array(rows)"),
    "more rows than files": Fault(body="return [*rows, 'more']"),
    "a child that returns": Fault(body="os.fork()"),
    "a child that raises": Fault(
        body="""
            if os.fork() == 0:
                raise ValueError("I am the child")
            os.wait()
        """
    ),
    "work in a pool": Fault(
        top="import multiprocessing",
        body="""
            with multiprocessing.Pool(2) as pool:
                rows = pool.map(str, rows)
        """,
    ),
    "a child by multiprocessing": Fault(
        top="import multiprocessing, time",
        body="multiprocessing.Process(target=time.sleep, args=(600,)).start()",
    ),
    "a child that goes on": Fault(top="import subprocess", body="subprocess.Popen(['sleep', '600'])"),
    "a thread that never ends": Fault(
        top="import threading, time",
        body="threading.Thread(target=time.sleep, args=(600,)).start()",
    ),
    "a thread that prints to the end": Fault(
        top="""
            import threading
            def talk(wait=__import__("time").sleep):
                while True:
                    print("still here", flush=True)
                    wait(0.001)
        """,
        body="threading.Thread(target=talk, daemon=True).start()",
    ),
    "an alarm again and again": Fault(
        top="import signal",
        body="""
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        """,
    ),
    "other signal handlers": Fault(
        top="import signal",
        body="""
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        """,
    ),
    "another environment": Fault(body="calls = os.environ['CALLS']; os.environ.clear(); os.environ['CALLS'] = calls"),
    "another working directory": Fault(body="working_dir = os.getcwd(); os.chdir('/'); os.chdir(working_dir)"),
    "no working directory": Fault(top="import shutil", body="shutil.rmtree(os.getcwd())"),
    "the root as working directory": Fault(body="os.chdir('/')"),
    "deletes its input": Fault(body="os.unlink(mini_batch[0])"),
    "other modules": Fault(
        top="import functools, json, time",
        body="""
            json.dumps = functools.partial(json.dumps, indent=1, default=str)
            json.loads = None
            time.time = time.perf_counter = time.monotonic = lambda: 0.0
        """,
    ),
    "another standard output": Fault(top="import io", body="sys.stdout = io.StringIO()"),
    "a closed standard output": Fault(body="sys.__stdout__.close(); sys.__stderr__.close(); sys.stdout.close()"),
    "a standard output that raises": Fault(
        top="""
            class Broken:
                def write(self, text=""):
                    raise OSError("broken")
                flush = write
        """,
        body="sys.stdout = sys.stderr = Broken()",
    ),
    "no standard output": Fault(body="sys.stdout = sys.stderr = None"),
    "no descriptors": Fault(body="os.closerange(0, 3)"),
    "descriptors of others": Fault(
        # where these were still closed, the staged rows would be among those who hear it
        body="""
            for number in (0, 1, 2):
                os.write(number, b"words of the script")
            os.closerange(0, 3)
        """
    ),
}
"""What is none of our business; one after the other in one process, that these stand the ones before them."""


LOADING = {
    "syntax error": Fault(
        top="def oops(:", reason=r"score\.py: it cannot be imported: SyntaxError: .*\(score\.py:\d+\)"
    ),
    "missing module": Fault(
        top="import a_module_that_nobody_has",
        reason=r"score\.py: it cannot be imported: ModuleNotFoundError: No module named 'a_module_that_nobody_has' "
        r"\(score\.py:\d+\); install it where this runs, or put it into the folder of the code",
    ),
    "raises": Fault(top="1 / 0", reason=r"it cannot be imported: ZeroDivisionError: .*\(score\.py:\d+\)"),
    "sys.exit": Fault(top="sys.exit(3)", reason=r"it cannot be imported: SystemExit: 3"),
    "KeyboardInterrupt": Fault(top="raise KeyboardInterrupt", reason="KeyboardInterrupt"),
    "os._exit": Fault(top="os._exit(3)", reason=r"died \(exit code 3\) while it loaded the script"),
    "segfault": Fault(top="import ctypes; ctypes.string_at(0)", reason=r"died \(SIGSEGV\) while it loaded the script"),
    "argparse": Fault(
        top="import argparse; argparse.ArgumentParser().parse_args()",
        reason=r"SystemExit: 2 \(score\.py:\d+\); it parses sys\.argv, .*: use parse_known_args\(\)",
    ),
    "init raises": Fault(
        top="""
            def init():
                raise RuntimeError("the weights are torn")
        """,
        reason=r"score\.py: init\(\) failed: RuntimeError: the weights are torn \(score\.py:\d+\)",
        detail=r"in init[\s\S]*RuntimeError: the weights are torn",
    ),
    "init is interrupted": Fault(
        top="""
            def init():
                raise KeyboardInterrupt
        """,
        reason="KeyboardInterrupt",
        detail="in init",
    ),
    "init without words": Fault(
        top="""
            class Mute(Exception):
                def __str__(self):
                    raise RuntimeError("I cannot say")
            def init():
                raise Mute
        """,
        reason=r"init\(\) failed: Mute",
        detail="in init",
    ),
}
"""What keeps a script from being loaded."""

REFUSED = {
    "no run": Fault(top="", reason=r"score\.py: the script has no function run\(mini_batch\)"),
    "run is no function": Fault(top="run = 3", reason="has a run of type int"),
}
"""What is no scoring script."""
