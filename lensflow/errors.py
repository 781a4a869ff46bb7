"""Every error a user can meet: one sentence that names what was found, what was expected and what to do."""


class LensflowError(Exception):
    """Base of all errors that lensflow raises on purpose."""

    exit_code = 1


class BadInput(LensflowError, ValueError):
    """An input file or folder is missing, damaged or not what it claims to be."""


class BadOption(LensflowError, ValueError):
    """An option or argument is unknown, of the wrong type or out of range."""

    exit_code = 2


class UnknownName(BadOption, KeyError):
    """A graph, profile, command or parameter name is not known; the nearest one is suggested."""

    __str__ = Exception.__str__  # KeyError would show the quoted repr


class Infeasible(LensflowError, MemoryError):
    """The plan cannot work: a block does not fit a worker."""

    exit_code = 3


class RunLocked(LensflowError, RuntimeError):
    """Another live process is writing this store."""

    exit_code = 5


class StoreConflict(LensflowError, RuntimeError):
    """The output exists and belongs to another run, or its identity has changed."""

    exit_code = 2


class OutputError(LensflowError, OSError):
    """The output cannot be written."""


class Misaligned(LensflowError, ValueError):
    """Blocks and stored chunks do not line up: two blocks would write one chunk."""


class BlockFailed(LensflowError, RuntimeError):
    """A block failed for good and the run was told to stop at the first failure."""
