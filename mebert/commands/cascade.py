"""`python -m mebert cascade`: several trained models as one, small ones first."""

from __future__ import annotations


def cascade(models: list[str] | None = None, out: str = "runs/cascade", threshold: float = 0.0) -> None:
    """Save trained models as a cascade, which is opened, calibrated and asked as any other model.

    A text runs through the first model; if that is not confident, the next one reads it, and so on. It leaves
    where 1 minus its largest probability is below the threshold (in a regression where two estimates agree).

    Args:
        models: Two or more runs, or their folders `model`, of one task and one tokenizer, the smallest first.
        out: New folder for the cascade.
        threshold: Of the rule, in [0, 1]; at 0, until `calibrate` has chosen one, every text is read by all models.
    """
    import shlex
    from pathlib import Path
    from typing import Any

    import yaml

    from mebert.data.model_rows import read_run_config
    from mebert.data.tokenizers import load_tokenizer
    from mebert.errors import UserError
    from mebert.models import CascadeModel
    from mebert.policies import ExitPolicy, MaxProbability, ValueChange
    from mebert.report.layout import print_pairs
    from mebert.storage.atomic import write_text
    from mebert.storage.model_folder import saved_model_folder
    from mebert.storage.model_spec import ModelSpec
    from mebert.storage.operating_point import MAX_DROP, OperatingPoint
    from mebert.storage.paths import check_output
    from mebert.storage.run_folder import RunFolder

    if not models:
        raise UserError("models is missing: give two or more runs, the smallest model first")
    check_output("out", out, folder=True)
    folders = [saved_model_folder(model) or model for model in models]
    joined = CascadeModel.from_folders(folders)
    policy: ExitPolicy = ValueChange(threshold) if joined.num_labels == 1 else MaxProbability(threshold)
    specs = [ModelSpec.read(folder) for folder in folders]
    # All members read the same tokens, those of the last one's training: the plain model, against which drops count.
    read: dict[str, Any] = {"max_length": specs[-1].max_length, "num_texts": specs[-1].num_texts}
    if len(strides := dict.fromkeys(spec.stride for spec in specs)) > 1:
        of_each = ", ".join("cut" if stride is None else f"stride {stride}" for stride in strides)
        raise UserError(f"the models of a cascade must read long texts alike (data.stride); they read them: {of_each}")
    if specs[-1].label_separator is not None:
        read["label_separator"] = specs[-1].label_separator
    if specs[-1].columns is not None:
        read["columns"] = specs[-1].columns.model_dump()
    if specs[-1].stride is not None:
        read["stride"] = specs[-1].stride
    if read["max_length"] is not None:
        read["max_length"] = min(read["max_length"], joined.adapter.max_length)
    config, rows = RunFolder.of_model(folders[-1]).config, " --file my.csv"
    content = read_run_config(config) if config.is_file() else None
    run = RunFolder(Path(out))
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        run.model.mkdir()  # claimed: of two commands one makes it
    except FileExistsError:
        raise UserError(f"{out} holds a model already; give another folder by --out") from None
    chosen_by = f"threshold {threshold:g}" if threshold else "cascade: no validation data has chosen a threshold yet"
    joined.save_pretrained(run.model, load_tokenizer(folders[-1]), policy.bind(joined), chosen_by=chosen_by, **read)
    if len(lengths := dict.fromkeys(spec.max_length for spec in specs)) > 1:
        of_each = ", ".join(map(str, lengths))
        print(f"Note: the models were trained at max_length {of_each}; the cascade reads {read['max_length']} tokens")
    members = [joined.member(index) for index in range(joined.num_exits)]
    sizes = ", ".join(f"{member.num_layers} layers of {member.hidden_size}" for member in members)
    print(f"Cascade of {len(members)} models ({sizes}): {out}")
    if content is not None:  # the rows of the largest model's run, which `calibrate` looks for there
        write_text(yaml.safe_dump({"data": content["data"]}), run.config)
        rows = ""
    calibrate = f"python -m mebert calibrate {shlex.quote(out)}{rows} --max_drop {MAX_DROP:g}"
    calibrate += f" --policies [{policy.name}] --use {policy.name}"
    print_pairs("In use:", {"operating point": OperatingPoint(policy.name, threshold, chosen_by)})
    print_pairs("Next:", {"choose its threshold": calibrate})
