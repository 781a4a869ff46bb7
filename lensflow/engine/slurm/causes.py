"""What the last words of a job that failed probably mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lensflow.engine.slurm.record import Folder
    from lensflow.engine.slurm.states import Action

CAUSES = {  # what a job's last words mean
    "certificate": "TLS: the certificates do not fit, or the clocks of the hosts differ",
    "ssl": "TLS: the certificates do not fit, or the clocks of the hosts differ",
    "nobody answers": "a firewall, or the profile's interface is not one that nodes reach this host by",
    "memory limit": "the profile's memory is too little for a job",
    "out of memory": "the profile's memory is too little for a job",
    "permission denied": "the profile's shared_folder cannot be read there",
    "no module named": "Python there lacks a package: set python, or a line of job_script_prologue",
    "no such file": "python or shared_folder is not the same there as here",
    "timed out": "a firewall, or the profile's interface is not one that nodes reach this host by",
}
UNKNOWN = "the profile's interface, a firewall, or a Python environment that starts slowly"


def explained(action: Action, folder: Folder) -> str:
    """Add to a complaint about a job what it said last, what that probably means, and where its log is."""
    named = re.match(r"job (\S+) ", action.text)
    job = action.jobs[0] if action.jobs else named[1] if named else None
    if job is None:
        return action.text
    words = folder.last_words(job)
    said = " ".join(words).lower()
    unknown = UNKNOWN if "worker of it" in action.text else ""  # else its workers came, and it is none of these
    cause = next((cause for sign, cause in CAUSES.items() if sign in said), unknown)
    text = f"job {job} {action.text}" if action.jobs else action.text
    last = f"; its last words: {words[-1]}" if words else ""
    likely = f"; likely cause: {cause}" if cause else ""
    return f"{text}{last}{likely}; its log is {folder.log_of(job)}"
