"""Which rows train, validate and test: the hold-out, and validation rows where test labels are hidden."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mebert.data.rows import Rows

__all__ = ["arrange", "groups_for", "used_by"]

# The groups of splits that each command uses: the first part of a split's name.
USED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


def groups_for(stage: str | None, holdout: float) -> tuple[str, ...]:
    """Return the groups to load for a stage (None: for all), those that may stand in for others included."""
    if stage is None:
        return ("train", "val", "test", "predict")
    # Validation rows may serve as the test, and held-out training rows as the validation or the test.
    groups = [*USED[stage]]
    if stage == "test":
        groups.append("val")
    if holdout and stage in ("validate", "test"):
        groups.append("train")
    return tuple(groups)


def used_by(name: str, stage: str | None) -> bool:
    """Return whether a stage (None: any) uses the split of that name."""
    return stage is None or name.partition("_")[0] in USED[stage]


def arrange(
    splits: Mapping[str, Rows], holdout: float, seed: int, keep: Collection[str] = ()
) -> tuple[dict[str, Rows], str | None]:
    """Hold out validation rows, and let validation rows serve as test where no test row has a label.

    Args:
        splits: Labelled rows by name: train, val and test, or with a suffix (`val_mismatched`).
        holdout: Share of the training rows that becomes the only validation split; 0 for none.
        seed: Draws the rows that are held out.
        keep: Names of test splits that stay even without a labelled row, for the user to be told.

    Returns:
        The splits, and a line that says which rows serve as test where they are not test rows.
    """
    tests = {n: r for n, r in splits.items() if n.startswith("test") and (len(r) or n in keep)}
    validation = {n: r for n, r in splits.items() if n.startswith("val")}
    arranged = {n: r for n, r in splits.items() if n == "train"}
    own_validation = validation
    if holdout and "train" in splits:
        arranged["train"], held_out = splits["train"].hold_out(holdout, seed)
        validation = {"val": held_out}
        own_validation = own_validation or validation
    note = None
    if not tests and own_validation:
        tests = {"test" + name.removeprefix("val"): rows for name, rows in own_validation.items()}
        origins = " and ".join(rows.origin for rows in tests.values())
        note = f"There are no test rows with public labels: the test uses {origins}"
    return arranged | validation | tests, note
