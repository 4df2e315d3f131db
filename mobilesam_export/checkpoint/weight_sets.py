"""The values of a file -> the sets of MobileSAM's weights in it, wherever they lie.

Trainers wrap a model and its state dict in many ways: {"model": ...}, {"ema": {"module": ...}},
names that begin with "module." (DataParallel), "_orig_mod." (torch.compile), "model.sam."
(Lightning). All of them come down to one prefix before MobileSAM's own names, which is found here
instead of being guessed from a list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from mobilesam_export.errors import CheckpointError
from mobilesam_export.model import expected_entries
from mobilesam_export.model.architecture import MOBILESAM, Architecture

MODULES = ("image_encoder", "prompt_encoder", "mask_decoder")
# What wrappers of a part of the model put in the middle of names: torch.compile, DataParallel,
# FSDP and activation checkpointing. MobileSAM has no module of these names.
WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# How the names of a trainer's own state begin, at any level.
TRAINING = ("optim", "sched", "lr_sched", "scaler", "callback", "loops", "rng")
ROOT = "."  # how `-c FILE:ENTRY` calls the weights that have no prefix


@cache
def used_entries(architecture: Architecture = MOBILESAM) -> frozenset[str]:
    """Names that inference reads; the others of `expected_entries` may be anything."""
    return frozenset(name for name in expected_entries(architecture) if not is_unused(name))


def is_unused(name: str) -> bool:
    """Whether inference ignores an entry of one of MODULES.

    These are the classifier of TinyViT's pre-training, counters of BatchNorm, tables that
    TinyViT computes from others (`ab` is its cache of attention biases), and what the profiler
    thop leaves in every module.
    """
    head = name.startswith(("image_encoder.head.", "image_encoder.norm_head."))
    leaf = name.rpartition(".")[2]
    counters = ("num_batches_tracked", "attention_bias_idxs", "ab", "total_ops", "total_params")
    return head or leaf in counters


@dataclass(frozen=True)
class WeightSet:
    """MobileSAM's weights, or a part of them, at one place in a file.

    Attributes:
        entry: the names on the way, joined with dots: "ema.module"; empty at the top of the file.
        entries: every value below it, by MobileSAM's name or whatever follows `entry`.
        unwrapped: names of WRAPPERS that were taken out of the middle of names.
        architecture: of the weights that the file says it has.
    """

    entry: str
    entries: Mapping[str, object]
    unwrapped: tuple[str, ...] = ()
    architecture: Architecture = MOBILESAM

    @property
    def complete(self) -> bool:
        """Whether every entry that inference needs is present."""
        return used_entries(self.architecture) <= self.entries.keys()

    @property
    def name(self) -> str:
        """The ENTRY of FILE:ENTRY that selects this set."""
        return self.entry or ROOT

    def parameters(self) -> list[Tensor]:
        """The tensors in MobileSAM's modules."""
        return [
            value
            for name, value in self.entries.items()
            if isinstance(value, Tensor) and name.partition(".")[0] in MODULES
        ]


def find_sets(
    values: Mapping[str, object], architecture: Architecture = MOBILESAM
) -> list[WeightSet]:
    """Find the sets of weights of this architecture in a file, in the file's order.

    A prefix with fewer than half of the entries belongs to another model that shares some.
    """
    counts: dict[str, int] = {}
    used = used_entries(architecture)
    for name in values:
        for prefix, entry in _prefix_candidates(name):
            counts[prefix] = counts.get(prefix, 0) + (_without_wrappers(entry)[0] in used)
    half = len(used) / 2
    return [
        _collect(prefix, values, architecture) for prefix, count in counts.items() if count > half
    ]


def _prefix_candidates(name: str) -> list[tuple[str, str]]:
    """Splits of a name into a prefix and the name of an entry below one of MODULES."""
    parts = name.split(".")
    return [
        ("".join(f"{part}." for part in parts[:index]), ".".join(parts[index:]))
        for index, part in enumerate(parts)
        if part in MODULES
    ]


def _without_wrappers(name: str) -> tuple[str, set[str]]:
    parts = name.split(".")
    wrappers = set(WRAPPERS).intersection(parts)
    return (".".join(p for p in parts if p not in wrappers) if wrappers else name), wrappers


def _collect(prefix: str, values: Mapping[str, object], architecture: Architecture) -> WeightSet:
    entries: dict[str, object] = {}
    stripped: set[str] = set()
    for name, value in values.items():
        if not name.startswith(prefix):
            continue
        entry = name.removeprefix(prefix)
        if entry.partition(".")[0] in MODULES:
            entry, wrappers = _without_wrappers(entry)
            stripped |= wrappers
        if entry in entries:
            raise CheckpointError(f"{entry!r} is there twice, with and without a wrapper's name")
        entries[entry] = value
    return WeightSet(prefix.removesuffix("."), entries, tuple(sorted(stripped)), architecture)


def choose(sets: Sequence[WeightSet], entry: str) -> WeightSet | None:
    """The set of weights to use, or None if a file has none and no entry is given.

    Args:
        sets: of one file.
        entry: what the user wrote behind the file's name: the name of a set or a part of it
            that only one has ("ema" for "ema.module"); empty to take the only complete one.

    Raises:
        CheckpointError: several sets fit, or none does.
    """
    complete = [item for item in sets if item.complete]
    if not entry:
        if len(complete) > 1:
            raise CheckpointError(
                f"this file holds {count_of_sets(complete)}; choose with -c FILE:ENTRY"
            )
        return next(iter(complete or sets), None)
    entry = entry.strip(".") or ROOT
    matches = [item for item in sets if item.name == entry]
    matches = matches or [item for item in sets if f".{entry}." in f".{item.entry}."]
    matches = [item for item in matches if item.complete] or matches
    if len(matches) != 1:
        summary = f"{len(matches)} sets of weights" if matches else "no weights of MobileSAM"
        names = ", ".join(item.name for item in matches or sets) or "none"
        raise CheckpointError(f"this file holds {summary} at {entry!r}; there are: {names}")
    return matches[0]


def count_of_sets(sets: Sequence[WeightSet]) -> str:
    """Like "two sets of weights: model, ema"."""
    count = {2: "two", 3: "three"}.get(len(sets), str(len(sets)))
    return f"{count} sets of weights: {', '.join(item.name for item in sets)}"


def left_over(values: Mapping[str, object], sets: Sequence[WeightSet]) -> tuple[str, ...]:
    """Names of tensors that belong to no set of weights and are no state of a trainer."""
    prefixes = [f"{item.entry}." if item.entry else "" for item in sets]
    return tuple(
        name
        for name, value in values.items()
        if isinstance(value, Tensor)
        and value.numel() > 1  # not a step, a loss or SWA's `n_averaged`
        and not any(part.lower().startswith(TRAINING) for part in name.split("."))
        and not any(name.startswith(prefix) and _is_ours(name, prefix) for prefix in prefixes)
    )


def _is_ours(name: str, prefix: str) -> bool:
    return name.removeprefix(prefix).partition(".")[0] in (*MODULES, "pixel_mean", "pixel_std")


def notes_on(
    weights: WeightSet, sets: Sequence[WeightSet], others: Sequence[str]
) -> tuple[str, ...]:
    """Notes for the user on how weights were taken from a file.

    Args:
        weights: the set that was chosen.
        sets: all of the file.
        others: names of tensors that belong to none of them.
    """
    notes = []
    if weights.entry:
        notes.append(f"took the weights from {weights.entry!r} and stripped this prefix")
    if weights.unwrapped:
        notes.append(f"stripped {', '.join(weights.unwrapped)} from the middle of names")
    for item in sets:
        if not item.complete and item.entry != weights.entry:
            notes.append(f"the weights in {item.name!r} are incomplete and left out")
    if others and sets:  # all of another model would be no news
        entries = "1 entry that is" if len(others) == 1 else f"{len(others)} entries that are"
        notes.append(f"left out {entries} no part of MobileSAM (first: {others[0]})")
    return tuple(notes)
