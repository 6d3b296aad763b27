from pathlib import Path


def init():
    pass


def run(mini_batch, mini_batch_context):
    for path in mini_batch:
        words = Path(path).read_text(encoding="utf-8").split()
        yield f"{mini_batch_context.minibatch_index},{Path(path).name},{len(words)}"
