"""What a model was saved with, against what is installed: a table of requirements, damaged files, one sentence."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.requirements import Mismatch, describe, mismatches

HERE = ".".join(platform.python_version_tuple()[:2])
INSTALLED = {
    "alpha": "1.3.2",
    "beta": "2.1.0+cpu",
    "gamma": "1.0rc1",
    "Delta_Kit": "1.0",
    "odd": "not-a-version",
}
SECRET = "sig=s3cr3t"


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install packages that are nothing but their metadata."""
    folder = tmp_path / "site"
    for name, version in INSTALLED.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        readme = "Version: 9 of the readme"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n{readme}\n")
    (folder / "hollow-1.0.dist-info").mkdir()
    (folder / "nameless-1.0.dist-info").mkdir()
    (folder / "nameless-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: nameless\n\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def model(tmp_path: Path, *, python: str = f"{HERE}.1", **files: str) -> str:
    """Write a model's folder; ``_`` in a file's name stands for the last dot."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"
        + (f"    python_version: {python}\n" * bool(python))
    )
    for name, text in files.items():
        (folder / ".".join(name.rsplit("_", 1))).write_text(text)
    return str(folder)


def found(path: str) -> list[tuple[str, str, str]]:
    """Return the mismatches as package, wanted and found."""
    return [(each.package, each.wanted, each.found) for each in mismatches(path)]


@pytest.mark.parametrize(
    "line",
    [
        "alpha==1.3.2",
        "alpha == 1.3.2",
        "alpha==1.3.2.0",
        "alpha===1.3.2",
        "alpha==1.3.*",
        "alpha>=1.3,<2",
        "alpha~=1.3",
        "alpha",
        "ALPHA==1.3.2  # pinned",
        "alpha[extra,other]==1.3.2",
        "delta-kit==1",
        "Delta.Kit==1.0.0",
        "beta==2.1.0",
        "beta==2.1.0+cpu",
        "gamma>=0.9",
        "alpha==9; python_version<'3'",
        'alpha==9; extra == "dev"',
        "alpha==1.3.2; python_version>'3'",
        "alpha==1.3.2 --hash=sha256:0123 --hash=sha256:4567",
        "alpha==1.3.2 \\\n    --hash=sha256:0123 \\\r\n    --hash=sha256:4567",
        f"alpha @ https://a.blob.core.windows.net/c/alpha.whl?{SECRET}",
        f"https://a.blob.core.windows.net/c/nosuch.whl?{SECRET}",
        "git+https://example.com/nosuch.git@main#egg=nosuch",
        "-r other.txt",
        "-e .",
        f"--index-url https://user:{SECRET}@example.com/simple",
        "./wheels/nosuch-1.0-py3-none-any.whl",
        "# nosuch==1",
        "",
        "   ",
        "python==2.7",
        "alpha==",
        "alpha=1.3.2",
        "===",
        "nosuch; platform_machine",
        "\0\x1b[31mnosuch==1\ufeff",
        "alpha==" + "9" * 10_000 + " oops",
        "[" * 10_000,
    ],
)
def test_requirement_is_met_or_passed_over(tmp_path: Path, line: str) -> None:
    """What fits, what is not for this machine and what is no requirement is no mismatch."""
    assert found(model(tmp_path, requirements_txt=line)) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("alpha==1.3.1", ("alpha", "1.3.1", "1.3.2")),
        ("alpha===1.3.1", ("alpha", "1.3.1", "1.3.2")),
        ("alpha==1.3", ("alpha", "1.3", "1.3.2")),
        ("alpha==1.2.*", ("alpha", "==1.2.*", "1.3.2")),
        ("alpha<2,>=1.4", ("alpha", ">=1.4,<2", "1.3.2")),
        ("alpha!=1.3.2", ("alpha", "!=1.3.2", "1.3.2")),
        ("alpha[extra]==1.3.1", ("alpha", "1.3.1", "1.3.2")),
        ("Alpha==1.3.1 # pinned", ("Alpha", "1.3.1", "1.3.2")),
        ("alpha==1.3.1; python_version>'3'", ("alpha", "1.3.1", "1.3.2")),
        ("alpha==1.3.1 --hash=sha256:0123", ("alpha", "1.3.1", "1.3.2")),
        ("alpha==1.3.1 \\\n  --hash=sha256:0123", ("alpha", "1.3.1", "1.3.2")),
        ("alpha==1.4rc1", ("alpha", "1.4rc1", "1.3.2")),
        ("beta==2.1.1", ("beta", "2.1.1", "2.1.0+cpu")),
        ("beta==2.1.0+cu118", ("beta", "2.1.0+cu118", "2.1.0+cpu")),
        ("gamma==1.0", ("gamma", "1.0", "1.0rc1")),
        ("odd==1.0", ("odd", "1.0", "not-a-version")),
        ("nosuch==1.0", ("nosuch", "1.0", "")),
        ("nosuch==0", ("nosuch", "0", "")),
        ("nosuch>=1", ("nosuch", ">=1", "")),
        ("nosuch", ("nosuch", "", "")),
        ("hollow==1.0", ("hollow", "1.0", "")),
        ("nameless==1.0", ("nameless", "1.0", "")),
        (f"nosuch @ https://a.blob.core.windows.net/c/nosuch.whl?{SECRET}", ("nosuch", "", "")),
    ],
)
def test_requirement_is_not_met(tmp_path: Path, line: str, expected: tuple[str, str, str]) -> None:
    """What differs is named with what was wanted and what is here."""
    assert found(model(tmp_path, requirements_txt=line)) == [expected]


CONDA = """\
channels:
- conda-forge
dependencies:
- python=2.7.18
- pip<=23.2.1
- pip:
  - alpha==1.3.1
  - -r more.txt
  - nosuch
name: mlflow-env
"""
PYTHON_ENV = "python: 2.7.18\nbuild_dependencies:\n- nosuch==1\ndependencies:\n- -r requirements.txt\n- alpha==1.2.1\n"


@pytest.mark.parametrize(
    ("files", "file", "expected"),
    [
        pytest.param(
            {"requirements_txt": "alpha==1.3.0", "conda_yaml": CONDA, "python_env_yaml": PYTHON_ENV},
            "requirements.txt", [("alpha", "1.3.0")], id="requirements.txt wins",
        ),
        pytest.param({"requirements_txt": "", "conda_yaml": CONDA}, "requirements.txt", [], id="empty is an answer"),
        pytest.param(
            {"conda_yaml": CONDA, "python_env_yaml": PYTHON_ENV},
            "conda.yaml", [("alpha", "1.3.1"), ("nosuch", "")], id="conda.yaml is next",
        ),
        pytest.param(
            {"python_env_yaml": PYTHON_ENV}, "python_env.yaml", [("alpha", "1.2.1")], id="python_env.yaml is last"
        ),
        pytest.param(
            {"conda_yaml": "dependencies: [python=3.8]", "python_env_yaml": PYTHON_ENV},
            "python_env.yaml", [("alpha", "1.2.1")], id="conda.yaml without pip",
        ),
        pytest.param({}, "", [], id="none"),
    ],
)  # fmt: skip
def test_first_file_is_asked(tmp_path: Path, files: dict[str, str], file: str, expected: list[tuple[str, str]]) -> None:
    """requirements.txt, else the pip part of conda.yaml, else python_env.yaml; Python is that of the MLmodel file."""
    path = model(tmp_path, **files)
    result = mismatches(path)
    assert [(each.package, each.wanted) for each in result] == expected
    assert {each.file for each in result} <= {str(Path(path) / file)}


@pytest.mark.parametrize(
    ("python", "files", "expected"),
    [
        (f"{HERE}.99", {}, []),
        (f"'{HERE}'", {}, []),
        ("2.7.18", {}, [("python", "2.7", HERE)]),
        ("'3.1'", {}, [("python", "3.1", HERE)]),
        ("'3.110.1'", {}, [("python", "3.110", HERE)]),
        ("unknown", {}, []),
        ("[3, 8]", {}, []),
        ("", {}, []),
        ("", {"python_env_yaml": "python: 2.7.18\n"}, [("python", "2.7", HERE)]),
        ("", {"python_env_yaml": "python: 3.10\n"}, [("python", "3.10", HERE)]),
        ("", {"conda_yaml": "dependencies:\n- python=2.7.18\n"}, [("python", "2.7", HERE)]),
        ("", {"conda_yaml": "dependencies:\n- python==2.7\n- pip\n"}, [("python", "2.7", HERE)]),
        ("", {"conda_yaml": "dependencies:\n- python>=2.7\n"}, []),
        (f"{HERE}.1", {"python_env_yaml": "python: 2.7.18\n"}, []),
    ],
)
def test_python_differs_where_its_minor_version_does(
    tmp_path: Path, python: str, files: dict[str, str], expected: list[tuple[str, str, str]]
) -> None:
    """3.11.4 is 3.11.9, 3.10 is neither 3.1 nor 3.11; the environment files answer where the MLmodel file does not."""
    assert found(model(tmp_path, python=python, **files)) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"\0", b"- [", b"a: &a [*a]", b"dependencies: 7", b"dependencies: {pip: {a: b}}",
     b"dependencies:\n- pip: nothing\n- {pip: [[a], {b: c}]}\n- null", b"flavors: []", b"flavors: {python_function: 3}",
     b"[" * 5_000, b"!!python/object:os.system {}", b"\x80abc", b"a: b\n\tc: d"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml"])
def test_damaged_file_says_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    """No content of a file raises, and none makes up a package."""
    path = model(tmp_path)
    (Path(path) / name).write_bytes(content)
    assert found(path) == []


@pytest.mark.parametrize("name", ["MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml"])
def test_folder_in_place_of_a_file_says_nothing(tmp_path: Path, name: str) -> None:
    """Nor does what is no file at all."""
    path = model(tmp_path)
    (Path(path) / "MLmodel").unlink()
    (Path(path) / name).mkdir()
    assert found(path) == []


def test_content_of_mlmodel_may_be_given(tmp_path: Path) -> None:
    """A caller that has read it already saves the time."""
    path = model(tmp_path, python="2.7.18")
    given = {"flavors": {"python_function": {"python_version": f"{HERE}.3"}}}
    assert (len(mismatches(path)), mismatches(path, given)) == (1, [])


def test_package_is_named_once(tmp_path: Path) -> None:
    """A package with two lines is one difference."""
    assert found(model(tmp_path, requirements_txt="alpha>1\nalpha<1.3\nalpha<1\n")) == [("alpha", "<1.3", "1.3.2")]


def difference(package: str, wanted: str, here: str, file: str = "m/requirements.txt") -> Mismatch:
    """Return a mismatch."""
    return Mismatch(package=package, wanted=wanted, found=here, file=file)


SKLEARN = difference("scikit-learn", "1.3.2", "1.9.1")
PYTHON = difference("python", "3.10", "3.11", "m/MLmodel")


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        pytest.param([], "", id="none"),
        pytest.param(
            [SKLEARN],
            "the model was saved with scikit-learn 1.3.2; here is scikit-learn 1.9.1: scores may differ "
            "(pip install -r m/requirements.txt gives the same)",
            id="a package",
        ),
        pytest.param(
            [SKLEARN, PYTHON],
            "the model was saved with scikit-learn 1.3.2 and Python 3.10; here are scikit-learn 1.9.1 and Python 3.11: "
            "scores may differ (pip install -r m/requirements.txt under Python 3.10 gives the same)",
            id="a package and Python",
        ),
        pytest.param(
            [PYTHON],
            "the model was saved with Python 3.10; here is Python 3.11: scores may differ (Python 3.10 gives the same)",
            id="Python",
        ),
        pytest.param(
            [difference("numpy", ">=1.20,<2", "2.4.0"), difference("lightgbm", "4.1.0", ""), difference("x", "", "")],
            "the model was saved with numpy >=1.20,<2, lightgbm 4.1.0 and x; here are numpy 2.4.0, no lightgbm and no "
            "x: scores may differ (pip install -r m/requirements.txt gives the same)",
            id="a range, missing packages",
        ),
        pytest.param(
            [difference("alpha", "1", "2", "m/conda.yaml"), PYTHON],
            "the model was saved with alpha 1 and Python 3.10; here are alpha 2 and Python 3.11: scores may differ "
            "(the environment of m/conda.yaml gives the same)",
            id="conda.yaml",
        ),
        pytest.param(
            [*(difference(name, "1", "2") for name in "abcdefg"), PYTHON],
            "the model was saved with a 1, b 1, c 1, d 1, e 1, Python 3.10 and 2 more; here are a 2, b 2, c 2, d 2, "
            "e 2 and Python 3.11: scores may differ "
            "(pip install -r m/requirements.txt under Python 3.10 gives the same)",
            id="many",
        ),
    ],
)
def test_sentence(differences: list[Mismatch], expected: str) -> None:
    """One sentence says what differs and what would not."""
    assert describe(differences) == expected


def test_token_of_a_url_is_not_shown(tmp_path: Path) -> None:
    """A SAS in a requirement appears nowhere."""
    text = f"nosuch @ https://a.blob.core.windows.net/c/n.whl?{SECRET}\n--extra-index-url https://x:{SECRET}@e.com/\n"
    result = mismatches(model(tmp_path, requirements_txt=text))
    assert result
    assert SECRET not in repr(result) + describe(result)


def test_pinned_versions_need_no_packaging(tmp_path: Path) -> None:
    """The files MLflow writes are compared without its import, which costs more than all the rest."""
    path = model(tmp_path, python="2.7.18", requirements_txt="numpy==1.0.0\npandas==1.0\nnosuch==1\n")
    check = (
        f"import sys; from runtime.requirements import *; print(len(mismatches({path!r})), 'packaging' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4", "False"]


@pytest.mark.parametrize("package", ["numpy", "pandas", "scikit-learn", "mlflow"])
def test_version_is_that_of_the_installed_package(tmp_path: Path, package: str) -> None:
    """What is found is what importlib.metadata says, for real packages."""
    from importlib.metadata import version

    assert found(model(tmp_path, requirements_txt=f"{package}==0.0.1")) == [(package, "0.0.1", version(package))]
