"""Images: decoded, shaped as the signature says, one call each, and damaged ones alone."""

import io
import re
from pathlib import Path

import mlflow
import numpy as np
import PIL.Image
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from scoring.cell_score import CellScore
from scoring.errors import InputError, ModelLoadError
from scoring.files import InputSpec, list_inputs
from scoring.images import as_tensor, decode, read_image
from scoring.mlflow_model import MlflowModel
from scoring.probe import first_columns, objection_to_cutting
from scoring.rows import Dialect
from scoring.scan import Begin
from scoring.scanner import Scan, choose_grid
from scoring.specs import ReadPlan, ScorerSpec
from tests.old_releases import save_code

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*input example was not provided:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*type hints to the `predict` method:UserWarning"),
]

RGB = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)
PLAN = ReadPlan(columns=(), dialect=Dialect())
SEEING = '''
import mlflow
import numpy as np


class Seeing(mlflow.pyfunc.PythonModel):
    """Tells what it was called with."""

    def predict(self, context, model_input, params=None):
        array = next(iter(model_input.values())) if isinstance(model_input, dict) else model_input
        return [f"{type(model_input).__name__} {array.shape} {array.dtype} {int(array.sum())}"]


mlflow.models.set_model(Seeing())
'''


def cells_of(root):
    """The cells of a folder, or of a file."""
    return list(Scan(list_inputs(InputSpec(url=str(root))).files, Dialect(), Begin(spool_bytes=1), 0).run())


def encoded(image, form="PNG", **options):
    """An image as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def scored(model, path, plan=PLAN):
    """The only cell of a file, scored."""
    (cell,) = cells_of(path)
    return CellScore(model, plan, cell)


@pytest.fixture
def seeing(tmp_path_factory):
    """A function that saves a model which tells what it was called with, and loads it."""

    def save(*inputs):
        folder = tmp_path_factory.mktemp("models")
        code = folder / "seeing.py"
        code.write_text(SEEING)
        signature = ModelSignature(inputs=Schema(list(inputs))) if inputs else None
        save_code(folder / "seeing", code, signature=signature)
        return MlflowModel(ScorerSpec(model_path=str(folder / "seeing")))

    return save


# Decoding

MODES = {
    "RGB": ("RGB", (4, 5, 3), "uint8"),
    "RGBA": ("RGBA", (4, 5, 4), "uint8"),
    "L": ("L", (4, 5), "uint8"),
    "P": ("P", (4, 5, 3), "uint8"),
    "1": ("1", (4, 5), "uint8"),
    "LA": ("LA", (4, 5, 4), "uint8"),
    "I;16": ("I;16", (4, 5), "uint16"),
}


@pytest.mark.parametrize(("mode", "shape", "dtype"), MODES.values(), ids=MODES.keys())
def test_modes(mode, shape, dtype):
    """Colours are three or four numbers a pixel, grey is one; a palette is looked up."""
    image = decode(encoded(PIL.Image.new(mode, (5, 4))))
    assert image.shape == shape
    # the numbers are the same, but Pillow before 11 keeps those of 16 bits in 32
    assert str(image.dtype) in (dtype, "int32" if mode == "I;16" else dtype)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_pixels_are_those_of_the_file(form):
    """What was stored without loss is read without loss, in rows from the top."""
    assert np.array_equal(decode(encoded(PIL.Image.fromarray(RGB), form)), RGB)
    assert np.array_equal(decode(encoded(PIL.Image.fromarray(GREY), form)), GREY)


def test_colours_of_a_palette():
    """Pixels of a palette are its colours, not its numbers."""
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([1, 0])
    assert decode(encoded(image)).tolist() == [[[40, 50, 60], [10, 20, 30]]]


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_first_frame(form):
    """Of many frames the first is the image."""
    frames = [PIL.Image.new("L", (2, 2), grey) for grey in (7, 200)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert set(decode(data).ravel().tolist()) == {7}


DAMAGED = {
    "text": (b"no image", "cannot be read as an image: no format is recognised"),
    "nothing": (b"", "cannot be read as an image: no format is recognised"),
    "cut": (encoded(PIL.Image.fromarray(np.tile(RGB, (50, 50, 1))))[:-400], "cannot be read as an image: "),
    "cut jpeg": (
        encoded(PIL.Image.fromarray(np.tile(RGB, (50, 50, 1))), "JPEG")[:-400],
        "cannot be read as an image: ",
    ),
    "cut in the head": (encoded(PIL.Image.fromarray(RGB))[:20], "cannot be read as an image: "),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_images(tmp_path, data, message):
    """A damaged image fails alone, for a reason that is the same each time."""
    (tmp_path / "a.png").write_bytes(data)
    (cell,) = cells_of(tmp_path)
    found = read_image(cell)
    (entry,) = found.quarantine
    assert (entry["file"], entry["row"], entry["rows"]) == ("a.png", None, 1)
    assert entry["reason"].startswith(message)
    assert "0x" not in entry["reason"]
    assert (len(found.rows), found.accounts[0].given_up, found.causes) == (0, 1, {"images that cannot be read": 1})


# Tensors

TENSORS = {
    "a batch of any size": (RGB, (-1, -1, -1, 3), "uint8", (1, 4, 5, 3)),
    "a batch of this size": (RGB, (-1, 4, 5, 3), "float32", (1, 4, 5, 3)),
    "a batch of one": (RGB, (1, 4, 5, 3), "float64", (1, 4, 5, 3)),
    "an image alone": (RGB, (-1, -1, 3), "uint8", (4, 5, 3)),
    "grey images": (GREY, (-1, 4, 5), "int64", (1, 4, 5)),
    "grey images with an axis of colours": (GREY, (-1, -1, -1, 1), "uint8", (1, 4, 5, 1)),
    "rows of pixels": (GREY, (-1, 20), "float64", (1, 20)),
    "rows of any number of pixels": (RGB, (-1, -1), "float64", (1, 60)),
    "an image of its own size": (GREY, (4, 5), "uint8", (4, 5)),
}


@pytest.mark.parametrize(("image", "shape", "dtype", "expected"), TENSORS.values(), ids=TENSORS.keys())
def test_tensors(image, shape, dtype, expected):
    """An image takes the shape and the type of the signature, and keeps its values."""
    tensor = as_tensor(image, shape, dtype)
    assert (tensor.shape, str(tensor.dtype)) == (expected, dtype)
    assert np.array_equal(tensor.ravel(), image.ravel())


UNFIT = {
    "another size": (
        RGB,
        (-1, 8, 8, 3),
        "uint8",
        "an image of 4 x 5 x 3 does not fit the signature's tensor of -1 x 8",
    ),
    "other colours": (RGB, (-1, -1, -1, 1), "uint8", "an image of 4 x 5 x 3 does not fit"),
    "grey for colours": (GREY, (-1, -1, -1, 3), "uint8", "an image of 4 x 5 does not fit"),
    "colours first": (RGB, (-1, 3, 4, 5), "uint8", "an image of 4 x 5 x 3 does not fit"),
    "another number of pixels": (GREY, (-1, 64), "uint8", "an image of 4 x 5 does not fit"),
    "a narrower type": (
        GREY.astype(np.uint16) + 250,
        (-1, 4, 5),
        "uint8",
        r"values of the image \(uint16\) do not fit",
    ),
    "text": (GREY, (-1, 4, 5), "str", "an image has no values of type"),
}


@pytest.mark.parametrize(("image", "shape", "dtype", "message"), UNFIT.values(), ids=UNFIT.keys())
def test_images_that_do_not_fit(image, shape, dtype, message):
    """An image that is no such tensor is refused, with both shapes; nothing is guessed."""
    with pytest.raises(InputError, match=message):
        as_tensor(image, shape, dtype)


# Models

BATCHES = TensorSpec(np.dtype("float32"), (-1, -1, -1, 3))


def test_model_is_given_the_tensor_of_its_signature(tmp_path, seeing):
    """One call for each image, with the tensor of the signature, named where that is named (contract 4.2)."""
    (tmp_path / "A.PNG").write_bytes(encoded(PIL.Image.fromarray(RGB)))
    total = int(RGB.sum())
    assert bytes(scored(seeing(BATCHES), tmp_path / "A.PNG").lines) == (
        f'0,"ndarray (1, 4, 5, 3) float32 {total}",A.PNG\n'.encode()
    )
    named = seeing(TensorSpec(np.dtype("uint8"), (-1, 60), "pixels"))
    assert bytes(scored(named, tmp_path / "A.PNG").lines) == f'0,"dict (1, 60) uint8 {total}",A.PNG\n'.encode()


def test_model_without_a_signature_is_given_bytes(tmp_path, seeing):
    """Without a signature an image is uint8 in a batch of one; one that is more than bytes fails alone."""
    (tmp_path / "a.png").write_bytes(encoded(PIL.Image.fromarray(GREY)))
    (tmp_path / "b.png").write_bytes(encoded(PIL.Image.fromarray(GREY.astype(np.uint16) * 1000)))
    model = seeing()
    assert bytes(scored(model, tmp_path / "a.png").lines) == b'0,"ndarray (1, 4, 5) uint8 190",a.png\n'
    failed = scored(model, tmp_path / "b.png")
    assert (failed.lines, failed.accounts[0].given_up) == (b"", 1)
    assert re.search(rb"values of the image \((uint16|int32)\) do not fit the type uint8", failed.quarantine)


def test_model_that_wants_no_image(tmp_path, seeing):
    """Where the signature wants columns or other shapes, the image fails alone, and its rows are counted."""
    (tmp_path / "a.png").write_bytes(encoded(PIL.Image.fromarray(GREY)))
    for model, reason in (
        (
            seeing(ColSpec("double", "a")),
            rb"the model's signature wants \['a': double( \(required\))?\], which an image cannot be",
        ),
        (seeing(BATCHES), b"an image of 4 x 5 does not fit the signature's tensor of -1 x -1 x -1 x 3"),
    ):
        failed = scored(model, tmp_path / "a.png")
        assert re.search(reason, failed.quarantine)
        (account,) = failed.accounts
        assert (account.rows, account.given_up, failed.lines, failed.names) == (1, 1, b"", ())
        assert sum(failed.causes.values()) == 1


def test_model_of_images_is_given_no_table(tmp_path, seeing):
    """A CSV file beside images fails alone, where the model wants images."""
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4\n")
    failed = scored(seeing(BATCHES), tmp_path / "a.csv")
    assert (failed.lines, failed.accounts[0].given_up) == (b"", 2)
    assert b"which rows of a CSV file cannot hold" in failed.quarantine
    with pytest.raises(ModelLoadError, match="which rows of a CSV file cannot hold"):
        first_columns(seeing(BATCHES), cells_of(tmp_path)[0], PLAN)


def test_images_are_neither_cut_nor_probed(tmp_path, seeing):
    """Each image is a cell, whatever the grid, and asks nothing of the probe."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(PIL.Image.fromarray(GREY)))
    model = seeing()
    cells = cells_of(tmp_path)
    assert [[part.name for part in cell.slices] for cell in cells] == [["a.png"], ["b.png"]]
    assert (first_columns(model, cells[0], PLAN), objection_to_cutting(model, cells[0], PLAN, 16)) == ((), "")
    grid = choose_grid(list_inputs(InputSpec(url=str(tmp_path))).files, Dialect(), -1)
    assert (grid.cell_rows, grid.estimated_rows) == (0, 2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> tuple[MlflowModel, Path, list[str]]:
    """A classifier of 8 x 8 digits with a signature of a tensor, images of digits, and what it says of them."""
    data, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=50).fit(data, labels)
    folder = tmp_path_factory.mktemp("digits")
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float64"), (-1, 64))]),
        outputs=Schema([TensorSpec(np.dtype("int64"), (-1,))]),
    )
    mlflow.sklearn.save_model(
        model, folder / "model", signature=signature, pip_requirements=[], serialization_format="cloudpickle"
    )
    (folder / "in").mkdir()
    for number in range(12):
        pixels = PIL.Image.fromarray(data[number].reshape(8, 8).astype(np.uint8))
        pixels.save(folder / "in" / f"{number:02}.png")
    predicted = [str(label) for label in model.predict(data[:12])]
    return MlflowModel(ScorerSpec(model_path=str(folder / "model"))), folder / "in", predicted


@pytest.mark.filterwarnings("ignore:.*failed to converge")
def test_digits(digits):
    """A classifier of digits says of each image what it says of its pixels."""
    model, folder, predicted = digits
    assert model.columns((), None) is None
    lines = b"".join(bytes(CellScore(model, PLAN, cell).lines) for cell in cells_of(folder))
    assert lines.decode() == "".join(f"0,{label},{number:02}.png\n" for number, label in enumerate(predicted))


@pytest.mark.filterwarnings("ignore:.*failed to converge")
def test_digits_of_a_table(digits, tmp_path):
    """The same classifier scores the same pixels as rows of a table."""
    model, folder, predicted = digits
    pixels = [decode(path.read_bytes()).ravel().tolist() for path in sorted(folder.iterdir())]
    rows = [",".join(f"p{number}" for number in range(64)), *(",".join(map(str, row)) for row in pixels)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    (cell,) = cells_of(tmp_path)
    plan = ReadPlan(columns=first_columns(model, cell, PLAN), dialect=Dialect())
    lines = bytes(CellScore(model, plan, cell).lines)
    assert lines.decode() == "".join(f"{row},{label},a.csv\n" for row, label in enumerate(predicted))
