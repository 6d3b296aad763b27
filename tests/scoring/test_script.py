"""Scoring scripts do in a worker what they do in Azure ML (contract section 2)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scoring.script import conceal
from tests.scoring.scripts import run_script, write_files

SECRET = "hunter2-and-more"


# What it is given and returns


@pytest.mark.parametrize(
    ("body", "items", "lines"),
    [
        pytest.param("return [path.upper() for path in mini_batch]", 2, "/IN/A.CSV\n/IN/B.CSV\n", id="list"),
        pytest.param("return tuple(mini_batch)", 2, "/in/a.csv\n/in/b.csv\n", id="tuple"),
        pytest.param("return (path for path in mini_batch)", 2, "/in/a.csv\n/in/b.csv\n", id="generator expression"),
        pytest.param("yield from mini_batch", 2, "/in/a.csv\n/in/b.csv\n", id="generator"),
        pytest.param("import pandas; return pandas.DataFrame({'a': ['x y', 'z']})", 2, '"x y"\nz\n', id="DataFrame"),
        pytest.param("import pandas; return pandas.Series([1, 2, 3])", 3, "1\n2\n3\n", id="Series"),
        pytest.param("import numpy; return numpy.zeros(1)", 1, "0.0\n", id="array"),
        pytest.param("return []", 0, "", id="empty list"),
        pytest.param("import pandas; return pandas.DataFrame()", 0, "", id="empty DataFrame"),
        pytest.param("return [type(mini_batch).__name__, len(mini_batch)]", 2, "list\n2\n", id="argument is a list"),
    ],
)
def test_return_types(tmp_path: Path, body: str, items: int, lines: str) -> None:
    """Items are counted and lines written as contract 2.3 says."""
    told = run_script(tmp_path, f"def run(mini_batch):\n    {body}\n")
    assert told.runs == [{"lines": lines, "columns": [], "items": items}]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("None", "None"),
        ("'done'", "a value of type str"),
        ("{'a': 1}", "a value of type dict"),
        ("sleeping()", "a value of type coroutine"),
    ],
)
@pytest.mark.parametrize("action", ["append_row", "summary_only"])
def test_refused_return_types(tmp_path: Path, value: str, what: str, action: str) -> None:
    """A refused type fails the attempt in Azure ML's words, under summary_only too (contract 2.3, 3.3)."""
    script = f"async def sleeping(): ...\ndef run(mini_batch):\n    return {value}\n"
    told = run_script(tmp_path, script, output_action=action)
    (outcome,) = told.runs
    assert outcome["raised"] == "PredictionError"
    assert outcome["text"] == f"run() should return a list or a DataFrame, and it returned {what}"
    assert told.stderr == ""


def test_summary_only_counts_and_writes_nothing(tmp_path: Path) -> None:
    """Under summary_only what run returns is counted alone (contract 3.3)."""
    told = run_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n", output_action="summary_only")
    assert told.runs == [{"lines": "", "columns": [], "items": 2}]


def test_columns_of_csv(tmp_path: Path) -> None:
    """As CSV, the names of a DataFrame's columns are told, for the header."""
    script = "import pandas\ndef run(mini_batch):\n    return pandas.DataFrame({'a b': ['x,y'], 'c': [1]})\n"
    told = run_script(tmp_path, script, output_format="csv")
    assert told.runs == [{"lines": '"x,y",1\n', "columns": ["a b", "c"], "items": 1}]


def test_elements_are_written_by_code_of_the_script(tmp_path: Path) -> None:
    """An element's str may use what the script imports, and what it raises passes."""
    files = {
        "score.py": """
            class Row:
                def __str__(self):
                    from scoring.texts import text
                    return text
            def run(mini_batch):
                return [Row()]
        """,
        "scoring/texts.py": "text = 'mine'\n",
    }
    assert run_script(tmp_path, files).lines == ["mine"]


CONTEXT = """
    def run({parameters}):
        {context} = locals().get("{context}")
        return [type({context}).__name__]
"""


@pytest.mark.parametrize(
    ("parameters", "context", "given"),
    [
        ("mini_batch, mini_batch_context", "mini_batch_context", "MiniBatchContext"),
        ("data, c, /", "c", "MiniBatchContext"),
        ("data, context=None", "context", "MiniBatchContext"),
        ("data, ctx, other=1", "ctx", "MiniBatchContext"),
        ("data, threshold=0.5", "threshold", "float"),
        ("data, *rest", "rest", "tuple"),
        ("*rest", "rest", "tuple"),
        ("data, *, context=0.5", "context", "float"),
        ("data, **rest", "rest", "dict"),
    ],
)
def test_who_gets_a_context(tmp_path: Path, parameters: str, context: str, given: str) -> None:
    """A context is given to a run that must have a second argument, or calls it so (contract 2.2)."""
    assert run_script(tmp_path, CONTEXT.format(parameters=parameters, context=context)).lines == [given]


def test_what_a_context_holds(tmp_path: Path) -> None:
    """The context tells the number of the mini-batch (contract 2.2)."""
    script = """
        def run(mini_batch, mini_batch_context):
            c = mini_batch_context
            return [c.minibatch_index, c.partition_key_value, c.dataset_index]
    """
    told = run_script(tmp_path, script, ["/a"], ["/b"])
    assert [run["lines"] for run in told.runs] == ["0\n{}\n0\n", "1\n{}\n0\n"]


def test_callable_object_as_run(tmp_path: Path) -> None:
    """Anything that can be called is a run: an object, a partial, a bound method."""
    script = """
        import functools
        class Scorer:
            def __call__(self, mini_batch, mini_batch_context):
                return [mini_batch_context.minibatch_index]
        run = functools.partial(Scorer())
    """
    assert run_script(tmp_path, script).lines == ["0"]


# Lifecycle and failures


def test_lifecycle(tmp_path: Path) -> None:
    """The import, init, each run and shutdown happen once each, in this order (contract 2.1)."""
    script = """
        print("import")
        def init():
            print("init")
        def run(mini_batch):
            print("run", *mini_batch)
            return mini_batch
        def shutdown():
            print("shutdown")
    """
    told = run_script(tmp_path, script, ["/a"], ["/b"])
    assert told.stdout.split("\n") == ["import", "init", "run /a", "run /b", "shutdown", ""]


def test_init_and_shutdown_are_optional(tmp_path: Path) -> None:
    """A script needs no more than run (contract 2.1)."""
    told = run_script(tmp_path, "def run(mini_batch):\n    return [1]\n")
    assert (told.lines, told.stderr) == (["1"], "")


DEFINE = "define one that returns a row for each file"
ASYNC = "is async, and nobody awaits it; define it with def alone"
CALLED_AS = "which nobody gives; it is called as run(mini_batch) or run(mini_batch, mini_batch_context)"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        pytest.param("", f"the script has no function run(mini_batch); {DEFINE}", id="no run"),
        pytest.param("run = 3", f"the script has a run of type int; {DEFINE}", id="run is no function"),
        pytest.param("async def run(mini_batch): ...", f"run() {ASYNC}", id="async run"),
        pytest.param("async def run(b):\n yield b", f"run() {ASYNC}", id="async generator"),
        pytest.param("async def init(): ...\ndef run(b): ...", f"init() {ASYNC}", id="async init"),
        pytest.param("def run(): ...", "run() takes no mini-batch; define run(mini_batch)", id="no parameter"),
        pytest.param("def run(*, b): ...", "run() takes no mini-batch; define run(mini_batch)", id="by keyword only"),
        pytest.param("def run(b, *, model): ...", f"run() needs model, {CALLED_AS}", id="keyword-only argument"),
        pytest.param("def run(a, b, c, d, e=1): ...", f"run() needs c, d, {CALLED_AS}", id="four parameters"),
    ],
)
def test_scripts_refused_before_init(tmp_path: Path, script: str, sentence: str) -> None:
    """What cannot be called is refused before any work (contract 2.1)."""
    told = run_script(tmp_path, "def init(): raise ValueError('too late')\n" * ("init" not in script) + script + "\n")
    assert (told.load["raised"], told.load["text"]) == ("ModelUseError", f"score.py: {sentence}")


def test_missing_script(tmp_path: Path) -> None:
    """A script that is not there is refused by name."""
    told = run_script(tmp_path, {"other.py": ""}, scoring_script="src/score.py")
    assert told.load["raised"] == "ModelUseError"
    assert told.load["text"] == f"src/score.py: there is no such scoring script in {tmp_path / 'code'}"


IMPORT = "it cannot be imported: "
INIT = "init() failed: "


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        pytest.param("\nraise ValueError('no\\nmodel')", f"{IMPORT}ValueError: no model (score.py:2)", id="import"),
        pytest.param("import sys\nsys.exit(3)", f"{IMPORT}SystemExit: 3 (score.py:2)", id="exit at import"),
        pytest.param(
            "import no_such_library",
            f"{IMPORT}ModuleNotFoundError: No module named 'no_such_library' (score.py:1); "
            "install it where this runs, or put it into the folder of the code",
            id="missing module",
        ),
        pytest.param("def run(:", f"{IMPORT}SyntaxError: invalid syntax (score.py:1)", id="syntax"),
        pytest.param("import broken", f"{IMPORT}SyntaxError: invalid syntax (broken.py:2)", id="syntax of a sibling"),
        pytest.param("def init():\n raise KeyError('k')", f"{INIT}KeyError: 'k' (score.py:2)", id="init"),
        pytest.param("def init():\n raise ValueError", f"{INIT}ValueError (score.py:2)", id="without a text"),
        pytest.param("import sys\ndef init():\n sys.exit()", f"{INIT}SystemExit (score.py:3)", id="exit in init"),
        pytest.param(
            "import json\ndef init():\n json.loads('')",
            f"{INIT}JSONDecodeError: Expecting value: line 1 column 1 (char 0) (score.py:3)",
            id="in a library",
        ),
        pytest.param(
            "def init():\n from lib.deep import go; go()",
            f"{INIT}RuntimeError: deep (lib/deep.py:2)",
            id="in a sibling",
        ),
        pytest.param(
            "class Odd(BaseException):\n def __str__(self): raise ValueError\ndef init():\n raise Odd",
            f"{INIT}Odd (score.py:4)",
            id="exception that fails to describe itself",
        ),
        pytest.param(
            "def init(one): ...",
            f"{INIT}TypeError: init() missing 1 required positional argument: 'one' (score.py)",
            id="init with a parameter",
        ),
        pytest.param("init = 3", f"{INIT}TypeError: 'int' object is not callable (score.py)", id="init is no function"),
    ],
)
def test_failures_of_loading(tmp_path: Path, script: str, sentence: str) -> None:
    """What fails at import or in init is one sentence with its place, and the trace is the cause (contract 2.1)."""
    files = {
        "score.py": script + "\n" + "def run(mini_batch): return []\n" * ("run" not in script),
        "broken.py": "\nx = (1 +* 2)\n",
        "lib/deep.py": "def go():\n    raise RuntimeError('deep')\n",
    }
    told = run_script(tmp_path, files)
    assert (told.load["raised"], told.load["text"]) == ("ModelLoadError", f"score.py: {sentence}")
    kind = sentence.removeprefix(IMPORT).removeprefix(INIT).partition(":")[0].partition(" ")[0]
    assert kind in told.load["trace"].partition("The above exception")[0]
    assert "The above exception was the direct cause" in told.load["trace"]


@pytest.mark.parametrize(
    ("statement", "raised"),
    [
        ("raise ValueError('row 3')", "ValueError"),
        ("sys.exit('done')", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_what_run_raises_passes(tmp_path: Path, statement: str, raised: str) -> None:
    """Whatever run raises comes out as it is, and the next mini-batch is scored (contract 2.3)."""
    script = (
        f"import sys\ndef run(mini_batch):\n    if '/bad' in mini_batch:\n        {statement}\n    return mini_batch\n"
    )
    told = run_script(tmp_path, script, ["/bad"], ["/good"])
    assert told.runs[0]["raised"] == raised
    assert 'code/score.py", line 4, in run' in told.runs[0]["trace"]
    assert told.runs[1]["lines"] == "/good\n"


def test_failing_shutdown_is_told_and_no_failure(tmp_path: Path) -> None:
    """A shutdown that fails is told on standard error with its trace (contract 2.1)."""
    script = """
        import sys
        def run(mini_batch):
            return [1]
        def shutdown():
            sys.exit("cannot close")
    """
    told = run_script(tmp_path, script)
    assert told.lines == ["1"]
    assert "score.py: shutdown() failed: SystemExit: cannot close (score.py:6); what was scored stays\n" in told.stderr
    assert 'score.py", line 6, in shutdown' in told.stderr


def test_prints_survive_the_end_of_the_process(tmp_path: Path) -> None:
    """What was printed is not lost where the script ends the process, or hangs until it is killed."""
    write_files(
        tmp_path,
        {
            "code/score.py": """
                import os
                def run(mini_batch):
                    print("scoring", *mini_batch)
                    if mini_batch == ["/b"]:
                        os._exit(7)
                    print("caf\\udce9", end="")
                    return mini_batch
            """
        },
    )
    code = (
        "from scoring.script import Script; from scoring.specs import ScriptSpec; "
        f"script = Script(ScriptSpec(code={str(tmp_path / 'code')!r}, scoring_script='score.py', "
        f"work={str(tmp_path)!r}), 0); script.run(['/a'], mini_batch_index=0); script.run(['/b'], mini_batch_index=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "scoring /a\ncaf\\udce9scoring /b\n")


# The process


def test_siblings_are_importable(tmp_path: Path) -> None:
    """Modules and packages beside the script, and of the code folder, are imported as usual (contract 2.4)."""
    files = {
        "src/score.py": """
            from features import A
            from model_code.nets import B
            from top import C
            def run(mini_batch):
                return [A, B, C]
        """,
        "src/features.py": "A = 'beside'\n",
        "src/model_code/nets.py": "B = 'package beside'\n",
        "top.py": "C = 'code folder'\n",
    }
    told = run_script(tmp_path, files, scoring_script="src/score.py")
    assert told.lines == ["beside", "package beside", "code folder"]


def test_code_comes_first_on_the_path(tmp_path: Path) -> None:
    """The code folder, then the script's, come before all else (contract 2.4)."""
    files = {"src/deep/score.py": "import sys\ndef run(mini_batch):\n    return sys.path[:2]\n"}
    told = run_script(tmp_path, files, scoring_script="src/deep/score.py")
    assert told.lines == [str(tmp_path / "code"), str(tmp_path / "code/src/deep")]


NAMES = """
    import pickle, sys
    class Row:
        def __init__(self, text):
            self.text = text
        def __str__(self):
            return self.text
    def run(mini_batch):
        row = pickle.loads(pickle.dumps(Row("pickled")))
        return [row, type(row) is Row, __name__, __file__, sys.modules[__name__].Row is Row]
"""


@pytest.mark.parametrize(
    ("scoring_script", "name"),
    [
        ("score.py", "score"),
        ("src/score.py", "src.score"),
        ("a/b/score.py", "a.b.score"),
        ("batch-driver.py", "batch-driver"),
        ("my src/batch driver.py", "my src.batch driver"),
        ("./score.py", "score"),
        ("src//score.py", "src.score"),
        ("score.v2.py", "scoring_script_score_v2"),
        ("v1.2/score.py", "scoring_script_v1_2.score"),
        ("scoring.py", "scoring"),
        ("runtime.py", "runtime"),
        ("scoring/score.py", "scoring.score"),
        ("scoring/script.py", "scoring.script"),
        ("runtime/worker.py", "runtime.worker"),
        ("utils.py", "utils"),
        ("main.py", "main"),
        ("__main__.py", "scoring_script___main__"),
        ("class.py", "class"),
        ("json.py", "scoring_script_json"),
        ("queue.py", "scoring_script_queue"),
        ("code/score.py", "scoring_script_code.score"),
        ("pandas.py", "scoring_script_pandas"),
        ("mlflow/score.py", "scoring_script_mlflow.score"),
        ("score", "scoring_script_score"),
    ],
)
def test_names_of_scripts(tmp_path: Path, scoring_script: str, name: str) -> None:
    """A script has the name its path says, or one of its own; its classes pickle, and its file is the real one."""
    told = run_script(tmp_path, {scoring_script: NAMES}, scoring_script=scoring_script)
    assert told.lines == ["pickled", "True", name, os.path.normpath(tmp_path / "code" / scoring_script), "True"]


@pytest.mark.parametrize("package", [True, False], ids=["with __init__", "without __init__"])
@pytest.mark.parametrize("folder", ["src", "scoring", "code", "pandas", "v1.2", "a/b"])
def test_script_in_a_package(tmp_path: Path, folder: str, package: bool) -> None:
    """A script in a folder is a module of it, whatever the folder's name: it imports its siblings relatively."""
    files = {
        f"{folder}/score.py": "from . import near\nfrom .near import A\ndef run(mini_batch):\n    return [A, near.A]\n",
        f"{folder}/near.py": "A = 'near'\n",
    }
    if package:
        files[f"{folder}/__init__.py"] = "from .near import A\n"
    assert run_script(tmp_path, files, scoring_script=f"{folder}/score.py").lines == ["near", "near"]


@pytest.mark.parametrize(
    ("scoring_script", "use"),
    [
        ("json.py", "import json; seen = json.loads('[1]')"),
        ("queue.py", "import queue; seen = queue.Queue(1).maxsize"),
        ("statistics.py", "import statistics; seen = statistics.mean([1, 1])"),
        ("yaml.py", "import yaml; seen = yaml.safe_load('1')"),
        ("pandas.py", "import pandas; seen = pandas.Series([1]).sum()"),
        ("pandas/score.py", "import pandas; seen = pandas.Series([1]).sum()"),
        ("logging.py", "import logging; logging.getLogger('x').info('hello'); seen = 1"),
    ],
)
def test_names_of_libraries_stay_theirs(tmp_path: Path, scoring_script: str, use: str) -> None:
    """A script named after a library does not take its place, whether it is loaded already or not."""
    files = {scoring_script: f"{use}\ndef run(mini_batch):\n    {use}\n    return [__file__, seen]\n"}
    told = run_script(tmp_path, files, scoring_script=scoring_script)
    assert told.lines[0] == str(tmp_path / "code" / scoring_script)
    assert told.lines[1].strip("[]") == "1"


def test_module_beats_nothing_where_a_package_has_its_name(tmp_path: Path) -> None:
    """Of `score.py` and a package `score` beside it, the script is what was named."""
    files = {"score.py": "def run(mini_batch):\n    return ['the script']\n", "score/__init__.py": "raise ValueError\n"}
    assert run_script(tmp_path, files).lines == ["the script"]


def test_spawned_children_find_the_script(tmp_path: Path) -> None:
    """A script may start processes of its own that begin afresh: they import the script, and nothing of ours."""
    files = {
        "scoring/score.py": """
            import multiprocessing, sys
            def double(number):
                return number * 2, "scoring.specs" in sys.modules
            def run(mini_batch):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    return pool.map(double, [1, 2])
        """,
        "scoring/__init__.py": "",
        "runtime.py": "",
    }
    told = run_script(tmp_path, files, scoring_script="scoring/score.py")
    assert told.lines == ["(2, False)", "(4, False)"]


def test_arguments(tmp_path: Path) -> None:
    """`sys.argv` is the script's path and the arguments; argparse finds those it knows (contract 2.4)."""
    script = """
        import argparse, sys
        parser = argparse.ArgumentParser()
        parser.add_argument("--logging_level", default="none")
        known, others = parser.parse_known_args()
        def run(mini_batch):
            return [sys.argv[0], known.logging_level, others]
    """
    told = run_script(tmp_path, script, arguments=("--mini_batch_size", "10", "--logging_level", "debug"))
    assert told.lines == [str(tmp_path / "code/score.py"), "debug", "['--mini_batch_size', '10']"]


def test_working_directory_is_private(tmp_path: Path) -> None:
    """Each worker works in a folder of its own (contract 2.4)."""
    script = "import os\nopen('note.txt', 'w').close()\ndef run(mini_batch):\n    return [os.getcwd(), os.listdir()]\n"
    for number in (0, 12):
        told = run_script(tmp_path, script, number=number)
        assert told.lines == [str(tmp_path / "work" / f"process{number:03}"), "['note.txt']"]


def test_relative_path_entries_stay_where_they_were(tmp_path: Path) -> None:
    """An entry of `sys.path` that was relative still means the folder it meant before."""
    write_files(tmp_path, {"lib/tools.py": "A = 'found'\n"})
    script = "from tools import A\ndef run(mini_batch):\n    return [A]\n"
    assert run_script(tmp_path, script, before="sys.path.append('lib')").lines == ["found"]


def test_environment(tmp_path: Path) -> None:
    """The deployment's variables, the model's folder and the output's are set before the import (contract 2.5)."""
    script = """
        import os
        seen = [os.environ.get(name) for name in ("TOKEN", "AZUREML_MODEL_DIR", "AZUREML_BI_OUTPUT_PATH")]
        def run(mini_batch):
            return seen
    """
    environment = (("TOKEN", SECRET), ("AZUREML_MODEL_DIR", "/not/this"))
    told = run_script(tmp_path, script, environment=environment, model_dir="/m", output_path="/o")
    assert told.lines == [SECRET, "/m", "/o"]
    told = run_script(tmp_path, script)
    assert told.lines == ["None", "None", "None"]


def test_pythonpath_of_the_deployment_counts(tmp_path: Path) -> None:
    """A deployment may name folders of modules, behind those of the code (contract 2.5)."""
    write_files(tmp_path, {"lib/tools.py": "A = 'lib'\n", "lib/own.py": "B = 'lib'\n"})
    files = {
        "score.py": "from tools import A\nfrom own import B\ndef run(b):\n    return [A, B]\n",
        "own.py": "B = 'code'\n",
    }
    told = run_script(tmp_path, files, environment=(("PYTHONPATH", str(tmp_path / "lib")),))
    assert told.lines == ["lib", "code"]


def test_time_zone_of_the_deployment_counts(tmp_path: Path) -> None:
    """A time zone among the variables is the one of local times."""
    script = "import time\ndef run(mini_batch):\n    return [time.tzname[0]]\n"
    assert run_script(tmp_path, script, environment=(("TZ", "XYZ-3"),), variables={"TZ": "UTC"}).lines == ["XYZ"]


@pytest.mark.parametrize("where", ["", "def init():\n    "], ids=["import", "init"])
def test_values_of_variables_are_shown_nowhere(tmp_path: Path, where: str) -> None:
    """Neither what we say of a failure nor a repr holds a value: its variable's name stands for it."""
    script = f"import os\n{where}raise ValueError('bad token ' + os.environ['TOKEN'])\ndef run(mini_batch): ...\n"
    told = run_script(tmp_path, script, environment=(("TOKEN", SECRET),))
    assert "ValueError: bad token $TOKEN (score.py:" in told.load["text"]
    assert SECRET not in told.load["text"] + told.repr


def test_values_of_variables_are_not_in_a_failing_shutdown(tmp_path: Path) -> None:
    """What is told of a failing shutdown holds no value either, in its trace neither."""
    script = "import os\ndef run(b):\n    return b\ndef shutdown():\n    raise ValueError(os.environ['TOKEN'])\n"
    told = run_script(tmp_path, script, environment=(("TOKEN", SECRET),))
    assert "ValueError: $TOKEN" in told.stderr
    assert SECRET not in told.stderr + told.repr


@pytest.mark.parametrize(("name", "value"), [("A=B", SECRET), ("", SECRET), ("A", SECRET + "\0")])
def test_variables_that_cannot_be_set(tmp_path: Path, name: str, value: str) -> None:
    """A variable that no process can have is refused by its name."""
    told = run_script(tmp_path, "def run(mini_batch): ...\n", environment=((name, value),))
    assert told.load["raised"] == "ModelUseError"
    assert told.load["text"].startswith(f"environment_variables: {name!r} cannot be set")
    assert SECRET not in told.load["trace"]


def test_conceal() -> None:
    """Longer values go first, and short ones, which any text may hold, stay."""
    environment = (("SHORT", "info"), ("PART", "abcdef"), ("WHOLE", "abcdef-ghi"))
    assert conceal("info abcdef-ghi abcdef", environment) == "info $WHOLE $PART"


@pytest.mark.parametrize(
    ("level", "words"),
    [("warning", "W"), ("info", "I W"), ("debug", "D I W"), ("INFO", "I W")],
)
def test_logging_goes_to_standard_output(tmp_path: Path, level: str, words: str) -> None:
    """The root logger writes plain lines to standard output from the level of the deployment on (contract 2.6)."""
    script = """
        import logging
        logging.basicConfig(level="ERROR", format="not this")
        def run(mini_batch):
            for number, word in ((10, "D"), (20, "I"), (30, "W")):
                logging.getLogger("mine").log(number, word)
            return mini_batch
    """
    told = run_script(tmp_path, script, logging_level=level)
    lines = told.stdout.splitlines()
    assert " ".join(line.split()[-1] for line in lines) == words
    assert lines[-1].split()[2:] == ["WARNING", "mine", "W"]
    assert told.stderr == ""


# MLflow


MLFLOW = """
    import mlflow
    def init():
        mlflow.log_param("workers", 1)
    def run(mini_batch):
        mlflow.log_metric("files", len(mini_batch))
        with open("note.txt", "w") as file:
            file.write("noted")
        mlflow.log_artifact("note.txt")
        return [mlflow.get_tracking_uri()]
"""


def test_mlflow_calls_work(tmp_path: Path) -> None:
    """A script may log to MLflow where no tracking server is (contract 2.5)."""
    tracking = (tmp_path / "tracking").as_uri()
    told = run_script(tmp_path, MLFLOW, tracking=tracking, variables={"MLFLOW_TRACKING_URI": ""})
    assert told.lines == [tracking]
    (metric,) = tmp_path.glob("tracking/*/*/metrics/files")
    run = metric.parent.parent
    assert metric.read_text().split()[1] == "2.0"
    assert (run / "params/workers").read_text() == "1"
    assert (run / "artifacts/note.txt").read_text() == "noted"
    assert "\nstatus: 3\n" in (run / "meta.yaml").read_text()  # finished


def test_mlflow_of_many_workers_at_once(tmp_path: Path) -> None:
    """Workers that make the store at the same moment do not get in each other's way."""
    files = write_files(tmp_path / "code", {"score.py": MLFLOW})
    code = """
import sys, time
from scoring.script import Script
from scoring.specs import ScriptSpec
import mlflow
sys.stdin.readline()
code, work, tracking, number = sys.argv[1:]
Script(ScriptSpec(code=code, scoring_script="score.py", work=work, tracking=tracking), int(number))
"""
    command = [sys.executable, "-c", code, str(files), str(tmp_path), (tmp_path / "tracking").as_uri()]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    workers = [
        subprocess.Popen(
            [*command, str(number)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for number in range(4)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    ends = [(worker.communicate()[1], worker.returncode) for worker in workers]
    assert [code for _, code in ends] == [0] * 4, ends
    assert len(list(tmp_path.glob("tracking/*/*/params/workers"))) == 4


@pytest.mark.parametrize("given", ["environment", "variables"])
def test_tracking_uri_that_is_set_stays(tmp_path: Path, given: str) -> None:
    """A tracking URI of the deployment or of the outer job wins (contract 2.5)."""
    script = """
        import os
        def run(mini_batch):
            return [os.environ["MLFLOW_TRACKING_URI"], os.environ.get("MLFLOW_ALLOW_FILE_STORE")]
    """
    name = "MLFLOW_TRACKING_URI"
    extra: dict[str, Any] = {given: ((name, "file:/x"),) if given == "environment" else {name: "file:/x"}}
    assert run_script(tmp_path, script, tracking="file:/y", **extra).lines == ["file:/x", "None"]
