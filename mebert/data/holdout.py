"""Which rows train, validate and test: held-out training rows, and validation rows where test labels are hidden."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mebert.data.rows import Rows

# The groups of splits that each command uses. A split's name is a group, or a group and a suffix (`val_mismatched`).
USED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


def is_used(name: str, stage: str | None) -> bool:
    """Whether a stage (None: any) uses the split of that name."""
    return stage is None or name.partition("_")[0] in USED[stage]


def groups_to_load(stage: str | None, holdout: float) -> tuple[str, ...]:
    """Return the groups to load for a stage (None: for all), those included whose rows may take another role."""
    if stage is None:
        return ("train", "val", "test", "predict")
    groups = [*USED[stage]]
    if stage == "test":
        groups.append("val")
    if holdout and stage in ("validate", "test"):
        groups.append("train")
    return tuple(groups)


def assign_roles(
    splits: Mapping[str, Rows], holdout: float, seed: int, keep: Collection[str] = ()
) -> tuple[dict[str, Rows], str | None]:
    """Hold out validation rows, and let validation rows serve as test where no test row has a label.

    Args:
        splits: Labelled rows by name.
        holdout: Share of the training rows that becomes the only validation split; 0 for none.
        seed: Draws the rows that are held out.
        keep: Names of test splits that stay even without a labelled row, so that the user gets an error.

    Returns:
        The splits, and a line for the user where validation rows serve as test.
    """
    tests = {n: r for n, r in splits.items() if n.startswith("test") and (len(r) or n in keep)}
    validation = {n: r for n, r in splits.items() if n.startswith("val")}
    train = {n: r for n, r in splits.items() if n == "train"}
    own_validation = validation
    if holdout and train:
        train["train"], held_out = train["train"].hold_out(holdout, seed)
        validation = {"val": held_out}
        own_validation = own_validation or validation
    note = None
    if not tests and own_validation:
        tests = {"test" + name.removeprefix("val"): rows for name, rows in own_validation.items()}
        origins = " and ".join(rows.origin for rows in tests.values())
        note = f"There are no test rows with public labels: the test uses {origins}"
    return train | validation | tests, note
