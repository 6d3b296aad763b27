"""Scoring scripts find the module that Azure ML puts into every worker (contract 2.6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scoring.scripts import run_script

SHOWING = """
    from azureml_user.parallel_run import EntryScript
    def run(mini_batch):
        here = EntryScript()
        return [here.agent_name, here.working_dir, here.dir, here.output_dir, here.log_dir]
"""


def test_where_it_says_to_be(tmp_path: Path) -> None:
    """The worker's name and its folders, of which those to write to exist (contract 2.6)."""
    told = run_script(
        tmp_path,
        {"src/score.py": SHOWING},
        scoring_script="src/score.py",
        number=7,
        output_path=str(tmp_path / "out"),
        logs=str(tmp_path / "logs"),
    )
    assert told.lines == [
        "process007",
        str(tmp_path / "work/process007"),
        str(tmp_path / "code/src"),
        str(tmp_path / "out"),
        str(tmp_path / "logs/user/entry_script_log/0"),
    ]
    assert (tmp_path / "out").is_dir()
    assert list((tmp_path / "logs/user/entry_script_log/0").iterdir()) == []


def test_relative_logs_are_below_where_the_worker_started(tmp_path: Path) -> None:
    """A relative folder of logs does not move with the working directory."""
    told = run_script(tmp_path, SHOWING, logs="logs")
    assert told.lines[4] == str(tmp_path / "logs/user/entry_script_log/0")


def test_without_logs_and_output(tmp_path: Path) -> None:
    """Where a job has neither, the working directory stands for both."""
    told = run_script(tmp_path, SHOWING)
    work = str(tmp_path / "work/process000")
    assert told.lines[1:] == [work, str(tmp_path / "code"), work, work]


def test_there_is_one(tmp_path: Path) -> None:
    """However it is imported and wherever it is made, it is the same object, before init too."""
    files = {
        "score.py": """
            import azureml_user.parallel_run
            import sibling
            from azureml_user import parallel_run
            from azureml_user.parallel_run import EntryScript
            at_import = EntryScript()
            def run(mini_batch):
                return [at_import is EntryScript() is sibling.here is azureml_user.parallel_run.EntryScript(),
                        isinstance(at_import, parallel_run.EntryScript)]
        """,
        "sibling.py": "from azureml_user.parallel_run import EntryScript\nhere = EntryScript()\n",
    }
    assert run_script(tmp_path, files).lines == ["True", "True"]


def test_a_stub_of_the_user_yields(tmp_path: Path) -> None:
    """A stand-in among the code, made for trying the script at home, yields to the real one, as in Azure ML."""
    files = {
        "score.py": SHOWING,
        "azureml_user/__init__.py": "",
        "azureml_user/parallel_run.py": "EntryScript = None\n",
    }
    assert run_script(tmp_path, files).lines[0] == "process000"


LOGGING = """
    from azureml_user.parallel_run import EntryScript
    logger = EntryScript().logger
    def init():
        logger.debug("detail")
        logger.info("caf\\udce9 é")
    def run(mini_batch):
        EntryScript().logger.warning("mini-batch of %d", len(mini_batch))
        return mini_batch
"""


@pytest.mark.parametrize(
    ("level", "messages"),
    [
        ("warning", ["mini-batch of 2"]),
        ("info", [r"caf\udce9 é", "mini-batch of 2"]),
        ("debug", ["detail", r"caf\udce9 é", "mini-batch of 2"]),
    ],
)
def test_log_of_a_worker(tmp_path: Path, level: str, messages: list[str]) -> None:
    """The logger writes to a file of the worker, from the level of the deployment on (contract 2.6, 3.5)."""
    told = run_script(tmp_path, LOGGING, number=3, logs=str(tmp_path / "logs"), logging_level=level)
    lines = (tmp_path / "logs/user/entry_script_log/0/process003.log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("azureml_user.parallel_run ")[1] for line in lines] == messages
    assert (told.stdout, told.stderr) == ("", "")


def test_log_without_a_folder_goes_to_standard_output(tmp_path: Path) -> None:
    """Where a job keeps no logs, the words are not lost."""
    told = run_script(tmp_path, LOGGING.replace("\\udce9", ""))
    assert [line.split()[-1] for line in told.stdout.splitlines()] == ["é", "2"]
