"""The order of an external teacher's classes against those of the task. Shapes: C classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mebert.data.label_names import may_be_positions
from mebert.errors import UserError


def label_order(
    teacher: str, teacher_names: Sequence[str] | None, num_labels: int, task_names: Sequence[str]
) -> tuple[list[int], str | None]:
    """The teacher's class number of each class of the task (C,), and a note for the user where it is a guess.

    By name, or by number where the teacher's classes have no names. A regression has one label, of any name. Where the
    numbers of classes differ or the names cannot be matched there is a UserError.

    >>> label_order("t", ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], 3, ["entailment", "neutral", "contradiction"])
    ([2, 1, 0], None)
    """
    shown = ", ".join(teacher_names or [f"{num_labels} without names"])
    both = f"its labels: {shown}; those of the data: {', '.join(task_names)}"
    if num_labels != len(task_names):
        raise UserError(f"teacher {teacher!r} has {num_labels} label(s), the data has {len(task_names)} ({both})")
    if num_labels == 1:
        return [0], None
    if teacher_names is not None:
        spellings: tuple[Callable[[str], str], ...] = (str.strip, lambda name: name.strip().casefold())
        for spell in spellings:
            places = {spell(name): number for number, name in enumerate(teacher_names)}
            wanted = [spell(name) for name in task_names]
            if len(places) == num_labels and set(wanted) == set(places):
                return [places[name] for name in wanted], None
        # Hugging Face writes LABEL_0, LABEL_1, ... for classes without names; others write 0, 1, ...
        numbered = rf"(label_){'?' * may_be_positions(task_names)}"  # numbers of the task's are names, not positions
        if not all(re.fullmatch(f"{numbered}{n}", name.strip().lower()) for n, name in enumerate(teacher_names)):
            raise UserError(
                f"teacher {teacher!r}: its labels cannot be matched by name ({both}); "
                "give a teacher of this task, or name the labels of own files as the teacher does (data.labels)"
            )
    return list(range(num_labels)), f"Teacher {teacher}: its labels have no names, so they are taken in order ({both})"
