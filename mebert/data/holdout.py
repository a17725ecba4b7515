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
    """Return the groups to load for a stage (None: for all), those included whose rows may take another role.

    `holdout` is above 0 where training rows may.
    """
    if stage is None:
        return ("train", "val", "test", "predict")
    groups = [*USED[stage]]
    if stage == "test":
        groups.append("val")
    if holdout and stage in ("validate", "test"):
        groups.append("train")
    return tuple(groups)


def assign_roles(
    splits: Mapping[str, Rows],
    holdout: float,
    seed: int,
    keep: Collection[str] = (),
    test_holdout: float = 0.0,
    stratify: bool = False,
) -> tuple[dict[str, Rows], str | None]:
    """Hold out test and validation rows, and let validation rows serve as test where no test row has a label.

    `test_holdout` and `holdout`, where they are above 0, are the shares of the training rows, drawn by `seed`, that
    become the only test and the only validation split. Test splits in `keep` stay even without a labelled row, so that
    the user gets an error. Also returns a line for the user where validation rows serve as test.
    """
    tests = {n: r for n, r in splits.items() if n.startswith("test") and (len(r) or n in keep)}
    validation = own_validation = {n: r for n, r in splits.items() if n.startswith("val")}
    train = {n: r for n, r in splits.items() if n == "train"}
    if test_holdout and train:
        train["train"], held_out = train["train"].hold_out(test_holdout, seed, stratify)
        tests = {"test": held_out}
    if holdout and train:
        left = min(holdout / (1.0 - test_holdout), 1.0)  # the share of all rows, of those that the test has left
        train["train"], held_out = train["train"].hold_out(left, seed, stratify)
        validation = {"val": held_out}
        own_validation = own_validation or validation
    note = None
    if not tests and own_validation:
        tests = {"test" + name.removeprefix("val"): rows for name, rows in own_validation.items()}
        origins = " and ".join(rows.origin for rows in tests.values())
        note = f"There are no test rows with public labels: the test uses {origins}"
    return train | validation | tests, note
