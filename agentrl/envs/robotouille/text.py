"""The original's words for a moment: every object with all that is true of it, what can be done, the goal."""

from __future__ import annotations

from agentrl.envs.robotouille.domain import PREDICATES, TYPES
from agentrl.envs.robotouille.kitchen import Kitchen

PARAGRAPHS = 50_000  # remembered paragraphs of one kitchen


class Describer:
    """Texts of one kitchen; paragraphs are remembered by the bits that they tell of."""

    def __init__(self, kitchen: Kitchen) -> None:
        self.kitchen = kitchen
        self._objects = [(kind, i) for kind in TYPES[:-1] for i in range(len(kitchen.names[kind]))]
        self._masks = [self._told(kind, index) for kind, index in self._objects]
        self._seen: list[dict[tuple[int, int], str]] = [{} for _ in self._objects]

    def objects(self, bits: int) -> str:
        """The paragraphs of all objects, in the order of types, then of numbers."""
        meals = bits >> self.kitchen.meal_base
        parts = []
        for place, mask in enumerate(self._masks):
            key = (bits & mask, meals)
            seen = self._seen[place]
            text = seen.get(key)
            if text is None:
                if len(seen) > PARAGRAPHS // len(self._masks):
                    seen.clear()
                text = seen[key] = self._paragraph(bits, *self._objects[place])
            parts.append(text)
        if meals:
            parts += [self._paragraph(bits, "meal", meal) for meal in range(self.kitchen.meals(bits))]
        return "\n\n".join(parts)

    def observation(self, bits: int) -> str:
        """The whole observation: objects, valid actions, goal."""
        actions = "\n".join([move.text for move in self.kitchen.moves(bits)])
        return f"{self.objects(bits)}\n\nValid Actions:\n{actions}\n\nGoal: {self.kitchen.problem.goal_text}"

    def _told(self, kind: str, index: int) -> int:
        """The bits before those of meals that an object's paragraph depends on."""
        mask = 0
        for predicate in PREDICATES:
            if "meal" in predicate.types:
                continue
            for place in range(len(predicate.texts)):
                if predicate.types[place] == kind:
                    mask |= self.kitchen.any(predicate.name, *self._around(predicate.types, place, index))
        return mask

    @staticmethod
    def _around(types: tuple[str, ...], place: int, index: int) -> tuple[int | None, ...]:
        return tuple(index if at == place else None for at in range(len(types)))

    def _paragraph(self, bits: int, kind: str, index: int) -> str:
        kitchen = self.kitchen
        meals = kitchen.meals(bits)
        name = kitchen.name(kind, index)
        lines = [f"{kind.capitalize()} {name}:"]
        for predicate in PREDICATES:
            found: list[tuple[tuple[int, ...], str]] = []
            for place, text in enumerate(predicate.texts):
                if predicate.types[place] != kind:
                    continue
                if len(predicate.types) == 1:
                    if bits & kitchen.bit(predicate.name, index):
                        found.append(((index,), text.format(name)))
                    continue
                other_kind = predicate.types[1 - place]
                others = meals if other_kind == "meal" else len(kitchen.names[other_kind])
                for other in range(others):
                    args = (index, other) if place == 0 else (other, index)
                    if (other_kind != kind or other != index) and bits & kitchen.bit(predicate.name, *args):
                        words = [kitchen.name(t, a) for t, a in zip(predicate.types, args, strict=True)]
                        found.append((args, text.format(*words)))
            lines += [line for _, line in sorted(found)]
        return "\n".join(lines)
