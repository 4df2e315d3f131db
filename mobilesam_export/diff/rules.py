"""Which change of a manifest breaks an app that worked with the old bundle: one table.

An app breaks if, with the code it has, it cannot load the new files on every device that it
supports, passes them what they do not take, reads what they no longer give, or shows masks that
mean nothing. Everything else is worth knowing and breaks nothing.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

Value = Any  # of a JSON document; ABSENT where one of the two has no such entry
ABSENT = None


class Breaks(StrEnum):
    """When a change breaks an app."""

    ALWAYS = "always"
    NEVER = "never"
    UNLESS_NEW = "unless the old bundle has no such entry"
    IF_RAISED = "if the version is higher or not stated any more"
    IF_LOST = "if it was true or passed and is not any more"


@dataclass(frozen=True)
class Rule:
    """What a change at a place of the manifest means.

    Attributes:
        pattern: of the place, such as "contract.*.inputs.*"; * stands for any text.
        area: heading of the change in reports.
        breaks: when it breaks an app.
        reason: why, or why not.
    """

    pattern: str
    area: str
    breaks: Breaks
    reason: str


# The first that fits decides. Tensors stand in the place by their names.
RULES = (
    Rule("contract.*puts.*.meaning", "contract", Breaks.NEVER, "a text; see the data"),
    Rule("contract.*.outputs.*", "contract", Breaks.UNLESS_NEW, "apps read outputs by this"),
    Rule("contract.*.inputs.*", "contract", Breaks.ALWAYS, "apps write inputs by this"),
    Rule("contract.form.image_input", "contract", Breaks.ALWAYS, "another kind of input"),
    Rule("contract.form.prompt", "contract", Breaks.ALWAYS, "another interface of the decoder"),
    Rule("contract.form*", "graph", Breaks.NEVER, "inside the files"),
    *(
        Rule(f"contract.{name}", "contract", Breaks.UNLESS_NEW, "steps that apps compute, as data")
        for name in ("preprocess", "postprocess", "which_mask", "coordinates")
    ),
    *(
        Rule(f"contract.{name}", "contract", Breaks.UNLESS_NEW, "a further file, for more prompts")
        for name in ("prompt_sets", "decoder_batch")
    ),
    *(
        Rule(f"contract.{name}", "contract", Breaks.UNLESS_NEW, "a further file, for faster clicks")
        for name in ("prepare", "decoder_prepared")
    ),
    Rule("contract*", "contract", Breaks.ALWAYS, "apps compute by this"),
    Rule("backend", "runtime", Breaks.ALWAYS, "another runtime has to load the files"),
    Rule("recipe.runtime.minimum", "runtime", Breaks.IF_RAISED, "of what runs the files"),
    Rule(
        "recipe.runtime", "runtime", Breaks.UNLESS_NEW, "what the files need is not stated any more"
    ),
    Rule("recipe.runtime*", "runtime", Breaks.ALWAYS, "another runtime has to load the files"),
    Rule("convert.minimum_deployment_target", "runtime", Breaks.IF_RAISED, "the least system"),
    Rule("convert.opset", "runtime", Breaks.IF_RAISED, "of the operators that a runtime must know"),
    Rule("convert*", "graph", Breaks.NEVER, "inside the files"),
    Rule("range_folding*", "graph", Breaks.NEVER, "inside the files"),
    Rule("steps*", "graph", Breaks.NEVER, "inside the files"),
    Rule("recipe*", "recipe", Breaks.NEVER, "inside the files; see figures and masks"),
    Rule("calibration*", "recipe", Breaks.NEVER, "inside the files; see figures and masks"),
    Rule("limits*", "limits", Breaks.NEVER, "apps read them from the bundle"),
    Rule("checkpoint.trained", "weights", Breaks.IF_LOST, "masks mean nothing"),
    Rule("checkpoint*", "weights", Breaks.NEVER, "the interface is the same"),
    Rule("license", "weights", Breaks.NEVER, "read it before you ship"),
    Rule("verification.status", "verification", Breaks.IF_LOST, "nobody has shown it to be right"),
    Rule("files.removed.*", "files", Breaks.ALWAYS, "apps load the file by this name"),
    Rule("versions*", "versions", Breaks.NEVER, "of the tools that wrote the files"),
    Rule("*", "other", Breaks.NEVER, "not part of the interface"),
)


def rule_of(place: str) -> Rule:
    """The rule for a place of the manifest."""
    return next(rule for rule in RULES if fnmatchcase(place, rule.pattern))


def is_breaking(rule: Rule, old: Value, new: Value) -> bool:
    """Whether the change from `old` to `new` breaks an app; one of them may be ABSENT."""
    match rule.breaks:
        case Breaks.ALWAYS:
            return True
        case Breaks.NEVER:
            return False
        case Breaks.UNLESS_NEW:
            return old is not ABSENT
        case Breaks.IF_RAISED:
            return new is ABSENT or (old is not ABSENT and _version(new) > _version(old))
        case Breaks.IF_LOST:
            return old in (True, "passed")


def _version(value: Value) -> tuple[int, ...]:
    """The numbers of a version, such as 2.1.6, 23 or iOS16, without zeros at its end."""
    numbers = [int(number) for number in re.findall(r"\d+", str(value))]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
