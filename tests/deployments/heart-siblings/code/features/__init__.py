from .names import NAMES

__all__ = ["NAMES"]
