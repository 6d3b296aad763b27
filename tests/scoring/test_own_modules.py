"""User code keeps its modules where they have the names of ours (contract 2.4, design.md section 8)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.scoring.scripts import run_script, write_files


def in_child(tmp_path: Path, code: str, *arguments: str) -> Any:
    """Run code in a process of its own and return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", dedent(code), *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


COLLIDING = {
    "score.py": """
        import runtime, utils, scoring, pickle
        from scoring import features
        from scoring.deep.er import E
        def init():
            global F
            from scoring.late import F
        def run(mini_batch):
            from scoring.later import G
            import runtime as again
            row = pickle.loads(pickle.dumps(features.Row()))
            return [runtime.A, utils.B, scoring.C, features.D, E, F, G, again is runtime, type(row) is features.Row]
        def shutdown():
            import scoring.last
            print(scoring.last.H, scoring.features is features)
    """,
    "runtime.py": "A = 'runtime'\n",
    "utils.py": "B = 'utils'\n",
    "scoring/__init__.py": "C = 'scoring'\n",
    "scoring/features.py": "D = 'features'\nclass Row: ...\n",
    "scoring/deep/er.py": "E = 'deep'\n",
    "scoring/late.py": "F = 'late'\n",
    "scoring/later.py": "G = 'later'\n",
    "scoring/last.py": "H = 'last'\n",
}
EXPECTED = ["runtime", "utils", "scoring", "features", "deep", "late", "later", "True", "True"]


def test_user_modules_with_our_names(tmp_path: Path) -> None:
    """A runtime.py, a scoring package and a utils.py are found at import, in init, run and shutdown."""
    told = run_script(tmp_path, COLLIDING, ["/a"], ["/b"])
    assert [run["lines"].splitlines() for run in told.runs] == [EXPECTED, EXPECTED]
    assert (told.stdout, told.stderr) == ("last True\n", "")


def test_ours_are_back_afterwards(tmp_path: Path) -> None:
    """Between the calls every module of ours is the same object as before, and more of ours can be imported."""
    before = """
        import runtime.errors
        ours = {name: module for name, module in sys.modules.items() if name.startswith(("scoring", "runtime"))}
    """
    after = """
        import pickle, scoring, scoring.lines
        assert ours == {name: sys.modules[name] for name in ours}
        assert pickle.loads(pickle.dumps(spec)) == spec
        assert sys.modules["__main__"].order is order
        answer["extra"] = [scoring.__file__, runtime.errors.__file__, scoring.lines.__file__]
    """
    told = run_script(tmp_path, COLLIDING, before=before, after=after)
    ours = Path(__file__).parents[2]
    assert told.lines == EXPECTED
    assert told.extra == [str(ours / name) for name in ("scoring/__init__.py", "runtime/errors.py", "scoring/lines.py")]


def test_ours_are_back_after_failures(tmp_path: Path) -> None:
    """They are back whatever the user's code raises."""
    script = "def run(mini_batch):\n    import scoring.mine\n    raise SystemExit(scoring.mine.A)\n"
    files = {"score.py": script, "scoring/mine.py": "A = 'mine'\n"}
    after = "import scoring.errors\nanswer['extra'] = [scoring.errors.__name__, 'scoring.mine' in sys.modules]\n"
    told = run_script(tmp_path, files, after=after)
    assert (told.runs[0]["raised"], told.runs[0]["text"]) == ("SystemExit", "mine")
    assert told.extra == ["scoring.errors", False]


def test_folders_without_init_are_packages_too(tmp_path: Path) -> None:
    """A folder scoring of the user's is found before our package, though it has no `__init__.py`."""
    files = {
        "score.py": "from scoring.a import A\nfrom runtime.b import B\ndef run(b):\n    return [A, B]\n",
        "scoring/a.py": "A = 1\n",
        "runtime/b.py": "from scoring.a import A\nB = A + 1\n",
    }
    assert run_script(tmp_path, files).lines == ["1", "2"]


def test_folders_that_the_script_adds(tmp_path: Path) -> None:
    """A folder that the script puts on `sys.path` itself counts too, wherever (contract 2.4)."""
    files = {
        "score.py": """
            import os, sys
            sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
            def run(mini_batch):
                from scoring.a import A
                return [A]
        """,
        "lib/scoring/a.py": "A = 1\n",
    }
    assert run_script(tmp_path, files).lines == ["1"]


def test_script_called_as_our_package(tmp_path: Path) -> None:
    """A script scoring.py is `scoring`, for its siblings too."""
    files = {
        "scoring.py": "import near\nB = 5\ndef run(mini_batch):\n    return [__name__, near.run() is run]\n",
        "near.py": "def run():\n    import scoring\n    assert scoring.B == 5\n    return scoring.run\n",
    }
    assert run_script(tmp_path, files, scoring_script="scoring.py").lines == ["scoring", "True"]


def test_main_is_the_users(tmp_path: Path) -> None:
    """A script may put its classes into `__main__`, where a model pickled in a notebook looks for them."""
    script = """
        import __main__, pickle
        class Scaler: ...
        Scaler.__module__ = "__main__"
        __main__.Scaler = Scaler
        def run(mini_batch):
            return [type(pickle.loads(pickle.dumps(Scaler()))) is Scaler, hasattr(__main__, "order")]
    """
    after = "answer['extra'] = hasattr(sys.modules['__main__'], 'Scaler')\n"
    told = run_script(tmp_path, script, after=after)
    assert (told.lines, told.extra) == (["True", "False"], False)


def test_two_owners_do_not_mix(tmp_path: Path) -> None:
    """Each `UserModules` keeps its own modules, one inside the other too."""
    write_files(tmp_path, {"one/scoring.py": "A = 1\n", "two/scoring.py": "A = 2\n"})
    code = """
        import json, sys
        import scoring
        from scoring.own_modules import UserModules
        one, two = UserModules(), UserModules()
        seen = []
        def look(modules, folder):
            with modules:
                sys.path.insert(0, folder)
                import scoring as theirs
                seen.append(theirs.A)
                sys.path.remove(folder)
        look(one, "one")
        look(two, "two")
        with one:
            seen.append(sys.modules["scoring"].A)
            with two:
                seen.append(sys.modules["scoring"].A)
            seen.append(sys.modules["scoring"].A)
        print(json.dumps([*seen, sys.modules["scoring"] is scoring, len(sys.meta_path)]))
    """
    plain = in_child(tmp_path, "import sys, json; print(json.dumps(len(sys.meta_path)))")
    assert in_child(tmp_path, code) == [1, 2, 1, 2, 1, True, plain]


def test_code_of_a_model(tmp_path: Path) -> None:
    """The code saved with an MLflow model may have our names too: it loads and predicts."""
    write_files(
        tmp_path / "code",
        {
            "scoring/__init__.py": "",
            "scoring/model.py": """
                import mlflow.pyfunc
                class Model(mlflow.pyfunc.PythonModel):
                    def predict(self, context, model_input, params=None):
                        from scoring.later import FACTOR
                        return model_input["a"] * FACTOR
            """,
            "scoring/later.py": "FACTOR = 3\n",
        },
    )
    save = """
        import sys, json
        sys.path.insert(0, "code")
        import inspect, mlflow.pyfunc
        from scoring.model import Model
        paths = "code_path" if "code_path" in inspect.signature(mlflow.pyfunc.save_model).parameters else "code_paths"
        mlflow.pyfunc.save_model("model", python_model=Model(), **{paths: ["code/scoring"]}, pip_requirements=[])
        print(json.dumps("saved"))
    """
    load = """
        import json
        import scoring.errors
        from scoring.own_modules import UserModules
        import mlflow.pyfunc, pandas
        modules = UserModules()
        with modules:
            model = mlflow.pyfunc.load_model("model")
        import scoring.lines
        with modules:
            predictions = model.predict(pandas.DataFrame({"a": [1, 2]}))
        print(json.dumps(predictions.tolist()))
    """
    assert in_child(tmp_path, save) == "saved"
    assert in_child(tmp_path, load) == [3, 6]
