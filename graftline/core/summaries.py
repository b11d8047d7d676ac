"""One sentence on what each step's record says; for logs, tasks and the terminal."""

from __future__ import annotations

from functools import singledispatch

from graftline.core import records
from graftline.core.counts import counted
from graftline.core.stages import POOLED


@singledispatch
def sentence(record: object) -> str:
    """One sentence on a record of :mod:`graftline.core.records`."""
    return str(record)


@sentence.register
def _(record: records.Dataset) -> str:
    counts = ", ".join(f"{record.total(split):,} {split}" for split in record.counts)
    notes = [
        counted(number, one, many)
        for number, one, many in (
            (record.corrupt, "broken and left out", "broken and left out"),
            (record.duplicates, "exact duplicate", None),
            (record.leaks, "in more than one given split", "in more than one given split"),
            (record.conflicts, "under more than one label", "under more than one label"),
        )
        if number
    ]
    images = counted(record.total(), "image")
    text = f"{images} of {counted(len(record.classes), 'class', 'classes')} from {record.source}"
    return f"{text} ({counts})" + (f"; {', '.join(notes)}" if notes else "")


@sentence.register
def _(record: records.Preprocessed) -> str:
    total = sum(record.counts.values())
    if record.uniform_shape is None:
        size = f"of several sizes, none larger than {record.size_px} px"
    else:
        size = "x".join(str(size) for size in record.uniform_shape)
    return f"{counted(total, 'image')}, {size}; {counted(record.shrunk, 'was', 'were')} shrunk"


@sentence.register
def _(record: records.Assembled) -> str:
    params = sum(layer.params for layer in record.up_to(record.cut))
    return (
        f"{record.backbone} {record.alpha:g} at {record.size_px} px with weights {record.weights}, "
        f"cut after {record.cut} ({counted(params, 'weight')}, "
        f"{counted(record.feature_dim(record.cut), 'feature')})"
    )


@sentence.register
def _(record: records.FreezePlan) -> str:
    # A precision's reason is a line of figures, which has a place of its own.
    precision = "" if record.precision_reason is None else f"; computed in {record.precision}"
    if record.measured:
        # So has this one, which is a paragraph.
        return f"{record.strategy}, cut after {record.cut}: chosen by measurement{precision}"
    return f"{record.strategy}: {record.reason}{precision}"


@sentence.register
def _(record: records.Features) -> str:
    images = counted(sum(record.counts.values()), "image")
    views = f", the training images in {record.views} views" if record.views > 1 else ""
    if record.boundary is None:
        return (
            f"{images}{views}: {record.pooled_dim} pooled features each at {record.cut}; no "
            f"feature maps are cached, since {record.uncached_reason}"
        )
    shape = "x".join(str(size) for size in record.shape)
    text = f"{images} through to {record.boundary}, {shape} {record.dtype} each{views}"
    if record.boundary == POOLED:
        return text
    return f"{text}; and {record.pooled_dim} pooled features each at {record.cut}"


@sentence.register
def _(record: records.Trained) -> str:
    return (
        f"{counted(record.epochs_run, 'epoch')}, kept after epoch {record.best_epoch}: validation "
        f"accuracy {record.validation_accuracy:.4f}, loss {record.validation_loss:.4f}"
    )


@sentence.register
def _(record: records.Metrics) -> str:
    return (
        f"test accuracy {record.test_accuracy:.4f} ({record.test_accuracy_low:.4f} to "
        f"{record.test_accuracy_high:.4f}, 95 %) on {counted(record.test_images, 'image')}"
    )


@sentence.register
def _(record: records.Exports) -> str:
    if not record.exported:
        return "nothing to export: export.formats is empty"
    told = ", ".join(f"{one.format} {one.agreement:.2%}" for one in record.exported)
    return f"the same label as the original: {told}"
