"""The scoring side of Scoreline: all that a worker needs, and nothing of the driver.

Its modules read cells, load a model, turn rows into predictions and format the bytes.
"""

__all__: list[str] = []
