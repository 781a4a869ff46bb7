"""SLURM: does it answer, and would it take and ever start the jobs that a profile asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes

from lensflow.engine.doctor.finding import Finding, fix, ok, warn
from lensflow.engine.params import nearest
from lensflow.engine.progress import size
from lensflow.engine.site.ask import Answer, ask
from lensflow.engine.site.partitions import seconds, spelled
from lensflow.engine.site.survey import Site, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lensflow.engine.doctor.wanted import Wanted
    from lensflow.engine.site.partitions import Partition

SUBJECT = "SLURM"
MEBIBYTE = 2**20


def slurm(wanted: Wanted, asked: Callable[..., Answer] = ask) -> Iterator[Finding]:
    """Look whether SLURM answers, and whether a profile's jobs keep to its limits.

    Parameters
    ----------
    wanted
        The profile.
    asked
        Runs a command of SLURM; default: on this host.
    """
    answer = asked("sinfo", "--noheader", "--format=%P")
    if answer.missing:
        yield fix(SUBJECT, answer.problem, "run lensflow on a login node of the cluster, or: module load slurm")
        return
    if not answer.good:
        yield fix(SUBJECT, answer.problem, "sinfo; scontrol ping; echo $SLURM_CONF; then ask the site's support")
        return
    site = survey(asked)
    named = f"cluster {site.name}, " if site.name else ""
    yield ok(SUBJECT, f"{site.version} answers ({named}{len(site.partitions)} partitions)".strip())
    yield from (warn(SUBJECT, one, "look at it by hand") for one in site.unknown if not one.startswith("accounts"))
    found = [*_partition(wanted, site), *_account(wanted, site)]
    yield from found
    if not any(one.level == "FIX" for one in found):
        yield from trial(wanted, asked)


def idle(asked: Callable[..., Answer] = ask) -> Iterator[Finding]:
    """Say that there is a SLURM which the profile at hand does not use."""
    answer = asked("sinfo", "--noheader", "--format=%P")
    if answer.good:
        names = answer.text.split()
        yield ok(SUBJECT, f"answers here ({', '.join(names)}); lensflow doctor --cluster slurm looks at it")


def trial(wanted: Wanted, asked: Callable[..., Answer] = ask) -> Iterator[Finding]:
    """Let sbatch judge a job of the profile's size without submitting it: sites have rules of their own."""
    limit, memory, cores = _walltime(wanted), _bytes(wanted.option("memory")), wanted.option("job_cpu", "cores")
    given = {
        "partition": wanted.option("queue", "partition"),
        "account": wanted.option("account"),
        "time": spelled(limit) if limit else None,
        "mem": f"{memory // MEBIBYTE}M" if memory else None,
        "cpus-per-task": cores,
    }
    words = [f"--{name}={value}" for name, value in given.items() if value]
    words += [str(one) for one in wanted.option("job_extra_directives") or [] if str(one).startswith("-")]
    answer = asked("sbatch", "--test-only", "--nodes=1", "--ntasks=1", *words, "--wrap=true")
    if answer.good:
        yield ok("sbatch", f"would take the profile's job ({' '.join(words) or 'no limits named'})")
    else:
        yield fix("sbatch", f"refuses the profile's job: {answer.problem}", f"change one of {' '.join(words)}")


def _partition(wanted: Wanted, site: Site) -> Iterator[Finding]:
    name = wanted.option("queue", "partition")
    if not site.partitions:
        return
    if name is None:
        found = next((one for one in site.partitions.values() if one.default), None)
    else:
        found = site.partitions.get(str(name))
    listed = ", ".join(site.partitions)
    better = f"queue: {site.default.name}" if site.default else "queue: a partition that is up"
    if found is None:
        told = f"there is none called {name}" if name else "the profile names none and SLURM has no default"
        yield fix("partition", f"{told}; there are {listed}.{nearest(str(name), site.partitions)}", better)
        return
    if not found.up:
        yield fix("partition", f"{found.name} is closed (scontrol show partition {found.name})", better)
        return
    if found.nodes and not found.usable:
        yield warn("partition", f"{found.name}: none of its {len(found.nodes)} nodes is up", "sinfo --list-reasons")
    account = wanted.option("account")
    if account and found.accounts is not None and account not in found.accounts:
        yield fix("partition", f"{found.name} is closed to account {account}", f"account: {min(found.accounts)}")
    beyond = [*_time(wanted, found, site), *_memory(wanted, found), *_cores(wanted, found)]
    yield from beyond or [ok("partition", _describe(found))]


def _describe(found: Partition) -> str:
    limit = spelled(found.max_time) if found.max_time else "no limit"
    cores = f", {found.cores} cores" if found.cores else ""
    memory = f", {size(found.memory)} a node" if found.memory else ""
    return f"{found.name}: time {limit}{cores}{memory}; the profile keeps to it"


def _time(wanted: Wanted, found: Partition, site: Site) -> Iterator[Finding]:
    given = wanted.option("walltime")
    if isinstance(given, int):
        told = f"walltime {given} is a number: YAML takes 12:00:00 without quotes for 43200, SLURM that for minutes"
        yield fix("walltime", told, f'walltime: "{spelled(given)}"')
        return
    try:
        asked = _walltime(wanted)
    except ValueError as error:
        yield fix("walltime", str(error), 'walltime: "12:00:00"')
        return
    limits = {f"partition {found.name}": found.max_time}
    for one in site.associations:
        if one.account == wanted.option("account") and one.partition in {"", found.name}:
            limits[f"account {one.account}"] = one.max_time
    for whose, limit in limits.items():
        if asked and limit and asked > limit:
            told = f"{spelled(asked)} is beyond the {spelled(limit)} of {whose}: the jobs would wait for ever"
            yield fix("walltime", told, f'walltime: "{spelled(limit)}"')


def _memory(wanted: Wanted, found: Partition) -> Iterator[Finding]:
    given = wanted.option("memory")
    most = f"memory: {(found.memory or 2**33) // MEBIBYTE}MiB"
    try:
        asked = _bytes(given)
    except ValueError:
        yield fix("memory", f"{given!r} is no size, such as 16GiB", most)
        return
    if asked and found.memory and asked > found.memory:
        told = f"{size(asked)} a job, but a node of {found.name} gives {size(found.memory)}"
        yield fix("memory", told, most)


def _cores(wanted: Wanted, found: Partition) -> Iterator[Finding]:
    asked = wanted.option("job_cpu", "cores")
    if asked and found.cores and int(asked) > found.cores:
        yield fix("cores", f"{asked} a job, but a node of {found.name} gives {found.cores}", f"cores: {found.cores}")


def _account(wanted: Wanted, site: Site) -> Iterator[Finding]:
    named = wanted.option("account")
    own = list(dict.fromkeys(one.account for one in site.associations))
    if named is None:
        if own:
            yield ok("account", f"the profile names none, SLURM's default is taken; yours: {', '.join(own)}")
    elif not own:
        unknown = next((one for one in site.unknown if one.startswith("accounts")), "SLURM lists none for you")
        yield warn("account", f"{named} could not be checked ({unknown})", "sacctmgr show associations user=$USER")
    elif named in own:
        yield ok("account", f"{named} is yours")
    else:
        told = f"{named} is not yours; yours: {', '.join(own)}.{nearest(str(named), own)}"
        remedy = f"account: {own[0]}"
        yield fix("account", told, remedy) if site.enforced else warn("account", told, remedy)


def _walltime(wanted: Wanted) -> int | None:
    given = wanted.option("walltime")
    return seconds(str(given)) if given is not None else None


def _bytes(given: Any) -> int | None:  # noqa: ANN401 - as the YAML has it
    return int(parse_bytes(given)) if given else None
