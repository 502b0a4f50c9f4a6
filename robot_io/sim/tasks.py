"""Names, sentences and object parts of the Meta-World tasks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from cascade.contracts import ConfigError
from cascade.contracts.errors import did_you_mean

METAWORLD_11 = (
    "door-open",
    "door-close",
    "basketball",
    "shelf-place",
    "button-press",
    "button-press-topdown",
    "faucet-close",
    "faucet-open",
    "handle-press",
    "hammer",
    "assembly",
)
"""The eleven tasks of the AVDC table (Ko et al., Learning to Act from Actionless Videos)."""

INSTRUCTIONS = {
    "assembly": "put the ring onto the peg",
    "basketball": "throw the basketball into the hoop",
    "bin-picking": "move the green cube from the red bin to the blue bin",
    "box-close": "put the lid on the box",
    "button-press": "press the button from the front",
    "button-press-topdown": "press the button from the top",
    "button-press-topdown-wall": "reach over the brick wall and press the button from the top",
    "button-press-wall": "reach around the brick wall and press the button from the front",
    "coffee-button": "press the button of the coffee machine",
    "coffee-pull": "pull the mug away from the coffee machine",
    "coffee-push": "push the mug under the coffee machine",
    "dial-turn": "turn the dial",
    "disassemble": "take the ring off the peg",
    "door-close": "close the door",
    "door-lock": "lock the door",
    "door-open": "open the door",
    "door-unlock": "unlock the door",
    "drawer-close": "close the drawer",
    "drawer-open": "open the drawer",
    "faucet-close": "close the faucet",
    "faucet-open": "open the faucet",
    "hammer": "hammer the nail into the wall",
    "hand-insert": "insert the block into the hole in the table",
    "handle-press": "press the handle down",
    "handle-press-side": "press the handle down from the side",
    "handle-pull": "pull the handle up",
    "handle-pull-side": "pull the handle up from the side",
    "lever-pull": "pull the lever up",
    "peg-insert-side": "insert the peg into the side of the red box",
    "peg-unplug-side": "unplug the plug from the socket",
    "pick-out-of-hole": "pick the red puck out of the hole",
    "pick-place": "pick up the puck and hold it in the air",
    "pick-place-wall": "carry the puck over the brick wall",
    "plate-slide": "slide the plate into the goal",
    "plate-slide-back": "slide the plate back out of the goal",
    "plate-slide-back-side": "slide the plate back out of the goal to the side",
    "plate-slide-side": "slide the plate sideways into the goal",
    "push": "push the puck forwards",
    "push-back": "push the block back",
    "push-wall": "push the puck around the brick wall",
    "reach": "reach to the point in the air",
    "reach-wall": "reach to the point behind the brick wall",
    "shelf-place": "put the blue cube on the shelf",
    "soccer": "kick the soccer ball into the goal",
    "stick-pull": "pull the thermos with the stick",
    "stick-push": "push the thermos with the stick",
    "sweep": "sweep the block off the table",
    "sweep-into": "sweep the block into the hole",
    "window-close": "close the window",
    "window-open": "open the window",
}
"""One natural sentence for each of the fifty tasks."""


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """Which visible geoms make the segment 'object' of a task.

    Attributes:
        body: name of their body.
        geoms: names of geoms, or empty for all of the body.
        materials: names of materials, or empty for all.
        without: materials to leave out.
        kind: 'mesh' to keep meshes only.
        off_axis_m: leave out geoms nearer than this to the vertical axis of the body.
    """

    body: str
    geoms: tuple[str, ...] = ()
    materials: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    kind: str = ""
    off_axis_m: float = 0.0


_DOOR_HANDLE = ObjectPart("door_link", materials=("dl_metal",), kind="mesh")
_FAUCET_LEVER = ObjectPart("faucet_link2", off_axis_m=0.03)

OBJECT_PARTS = {
    "door-open": _DOOR_HANDLE,
    "door-close": _DOOR_HANDLE,
    "basketball": ObjectPart("basketball"),
    "shelf-place": ObjectPart("obj", geoms=("objGeom",)),
    "button-press": ObjectPart("button"),
    "button-press-topdown": ObjectPart("button"),
    "faucet-close": _FAUCET_LEVER,
    "faucet-open": _FAUCET_LEVER,
    "handle-press": ObjectPart("handle_link"),
    "hammer": ObjectPart("hammer", geoms=("HammerHandle",)),
    "assembly": ObjectPart("asmbly_peg", geoms=("WrenchHandle",)),
}
"""The part that AVDC masks, by name since geom numbers change between releases."""

_STOP_WORDS = frozenset(
    "a an and at by for from in into it its of off on onto please the then there this to up with".split()  # noqa: SIM905
)
_SYNONYMS = {"shut": "close", "tap": "faucet", "wrench": "ring", "nut": "ring", "bookshelf": "shelf", "above": "top"}


def check_task(task: str) -> str:
    """Return `task` when Meta-World has it, without a version suffix such as '-v3'.

    Raises:
        ConfigError: there is no such task; the message names the nearest one.
    """
    name = re.sub(r"-v[123](-goal-observable)?$", "", task)
    if name not in INSTRUCTIONS:
        raise ConfigError(f"task {task!r}: not a Meta-World task.", did_you_mean(name, INSTRUCTIONS))
    return name


def _words(text: str) -> frozenset[str]:
    found = re.findall(r"[a-z]+", text.lower())
    plain = (w[:-1] if w.endswith("s") and len(w) > 3 else w for w in found if w not in _STOP_WORDS)
    return frozenset(_SYNONYMS.get(w, w) for w in plain)


def _vocabulary() -> tuple[dict[str, frozenset[str]], dict[str, float]]:
    tasks = {t: _words(s) | _words(t.replace("-", " ")) for t, s in INSTRUCTIONS.items()}
    every = {w for words in tasks.values() for w in words}
    rarity = {w: math.log(1 + len(tasks) / sum(w in words for words in tasks.values())) for w in every}
    return tasks, rarity


def scene_for(instruction: str) -> str | None:
    """Return the task whose own words fit `instruction` best, or None when none or several fit equally well.

    Words that few tasks share count more. A sentence that is a task's sentence, or has just the words of its name,
    always finds that task.
    """
    plain = " ".join(re.findall(r"[a-z]+", instruction.lower()))
    for task, sentence in INSTRUCTIONS.items():
        if plain in (sentence, task.replace("-", " ")):
            return task
    tasks, rarity = _vocabulary()
    asked = _words(instruction)
    named = [task for task in tasks if asked == _words(task.replace("-", " "))]
    if len(named) == 1:
        return named[0]
    scores = {}
    for task, words in tasks.items():
        shared = sum(rarity[w] for w in asked & words)
        missing = sum(rarity[w] for w in _words(INSTRUCTIONS[task]) - asked)
        foreign = sum(rarity.get(w, 0.0) for w in asked - words)  # words that belong to other tasks
        scores[task] = shared - 0.3 * missing - 0.5 * foreign
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    (best, first), (_, second) = ranked[0], ranked[1]
    return best if first > 1.5 and first - second > 0.3 else None
