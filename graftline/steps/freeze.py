"""Step ``freeze``: the named strategy becomes a plan of which layers train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graftline.compute.devices import settled_device
from graftline.core.csv_files import write_csv
from graftline.core.files import replacing_directory
from graftline.core.markdown import table
from graftline.core.params import Params
from graftline.core.records import Assembled, ComputedIn, FreezePlan, LayerRecord
from graftline.core.stages import POOLED
from graftline.core.workspace import Workspace
from graftline.network.freeze_plans import by_block, plan_freezing
from graftline.network.runners.choosing import computing_of
from graftline.selection.precision import PrecisionChoice, choose_precision
from graftline.selection.settings import Settings


def freeze(workspace: Workspace, params: Params) -> FreezePlan:
    """Turns ``freeze.strategy`` into a plan, and writes the plan and its table.

    Writes ``models/freeze_plan.json``, ``reports/freezing/table.md`` (by block) and
    ``reports/freezing/layers.csv`` (by layer); for ``auto`` also the files of
    :mod:`graftline.selection.report`.

    Raises:
        ParamsError: If the strategy names a layer or a number of blocks that the backbone has not.
        MissingOutputError: If ``assemble`` has not run.
    """
    settled_device(params.compute.device)
    assembled = Assembled.read_in(workspace)
    strategy = params.freeze.strategy
    precision = _precision(workspace, params, assembled, assembled.cut)
    if strategy == "auto":
        return _choose(workspace, params, assembled, precision)
    plan = plan_freezing(assembled, strategy, batch_norm=params.freeze.batch_norm)
    plan = _computed_in(plan, precision)
    with replacing_directory(workspace.freezing_report, sealed=True) as folder:
        _write_plan(assembled, plan, folder)
    plan.write(workspace.freeze_plan)
    return plan


def _precision(
    workspace: Workspace, params: Params, assembled: Assembled, layer: str
) -> PrecisionChoice:
    return choose_precision(
        workspace, assembled, params.compute, layer, params.freeze.max_images, params.seed
    )


def _computed_in(plan: FreezePlan, choice: PrecisionChoice) -> FreezePlan:
    return plan.model_copy(
        update={"precision": choice.precision, "precision_reason": choice.reason}
    )


def _choose(
    workspace: Workspace, params: Params, assembled: Assembled, precision: PrecisionChoice
) -> FreezePlan:
    """The plan that measurement chooses, with its report beside the table."""
    from graftline.selection.choice import choose
    from graftline.selection.report import write_report
    from graftline.selection.trainer import make_trainer

    settings = choice_settings(params, precision.precision)
    choice = choose(workspace, settings, make_trainer(workspace, settings))
    if choice.plan.cut != assembled.cut and precision.precision != "float32":
        # Nothing is known of the precision there, and it may lose what it did not lose elsewhere.
        precision = _precision(workspace, params, assembled, choice.plan.cut)
    plan = _computed_in(choice.plan, precision)
    with replacing_directory(workspace.freezing_report, sealed=True) as folder:
        _write_plan(assembled, plan, folder)
        write_report(workspace, choice, folder)
    plan.write(workspace.freeze_plan)
    return plan


def choice_settings(params: Params, precision: ComputedIn = "float32") -> Settings:
    """The sections that ``auto`` depends on: its own, and all that say how ``train`` trains."""
    return Settings(
        seed=params.seed,
        head=params.head,
        freeze=params.freeze,
        train=params.train,
        tune=params.tune,
        augment=params.augment,
        extract=params.extract,
        computing=computing_of(params.compute.device, precision),
    )


def _write_plan(assembled: Assembled, plan: FreezePlan, folder: Path) -> None:
    (folder / "table.md").write_text(freezing_table(assembled, plan), encoding="utf-8")
    _write_layers(assembled, plan, folder / "layers.csv")


def block_rows(
    layers: tuple[LayerRecord, ...], trainable: tuple[str, ...]
) -> Iterator[tuple[str, int, str, int, int]]:
    """Per block: name, layers, output shape, frozen parameters, trainable parameters."""
    for block, members in by_block(layers):
        training = sum(layer.params for layer in members if layer.name in trainable)
        total = sum(layer.params for layer in members)
        shape = "x".join(str(size) for size in members[-1].output_shape)
        yield block, len(members), shape, total - training, training


def freezing_table(assembled: Assembled, plan: FreezePlan) -> str:
    """The plan as a Markdown table, from the input to the head."""
    rows: list[tuple[object, ...]] = []
    frozen_total = training_total = 0
    for block, count, shape, frozen, training in block_rows(
        assembled.up_to(plan.cut), plan.trainable
    ):
        state = "trainable" if training else "frozen"
        rows.append((block, count, shape, state, frozen, training))
        frozen_total, training_total = frozen_total + frozen, training_total + training
    head = head_params(assembled, plan.cut)
    classes = str(len(assembled.classes))
    rows.append(("head", len(assembled.head_units) + 1, classes, "trainable", 0, head))
    totals = (f"**{frozen_total:,}**", f"**{training_total + head:,}**")
    rows.append(("**total**", "", "", "", *totals))
    columns = ("block", "layers", "output", "state", "frozen", "trainable")
    return (
        f"Strategy `{plan.strategy}`: {plan.reason}.\n\n{table(columns, rows, 'lrllrr')}\n\n"
        f"The backbone is cut after `{plan.cut}`; {_cached(plan.boundary)}.\n"
        f"{_precision_told(plan)}"
        "BatchNormalization layers of the base never train and stay in inference mode.\n"
    )


def head_params(assembled: Assembled, cut: str) -> int:
    """The number of weights in the head on a backbone cut after a layer."""
    widths = [assembled.feature_dim(cut), *assembled.head_units, len(assembled.classes)]
    return sum((before + 1) * after for before, after in zip(widths, widths[1:], strict=False))


def _write_layers(assembled: Assembled, plan: FreezePlan, path: Path) -> None:
    rows = []
    for layer in assembled.up_to(plan.cut):
        state = "trainable" if layer.name in plan.trainable else "frozen"
        shape = "x".join(str(size) for size in layer.output_shape)
        rows.append((layer.name, layer.kind, layer.block, shape, layer.params, state))
    write_csv(path, ("layer", "kind", "block", "output", "params", "state"), rows)


def _precision_told(plan: FreezePlan) -> str:
    if plan.precision_reason is None:
        return ""
    return f"The frozen part computes in {plan.precision_reason}.\n"


def _cached(boundary: str | None) -> str:
    if boundary is None:
        return "its first layers train, so each epoch runs the images through all of it"
    if boundary == POOLED:
        return "its pooled outputs are computed once and every epoch reads them from the cache"
    return f"the outputs of `{boundary}` are computed once and every epoch starts from there"
