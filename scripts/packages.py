"""The picture of the packages: ``make schema`` writes ``docs/images/packages.svg``.

A row for each package, from top to bottom in the order of the import contract in pyproject.toml; a
dot in a column says that it imports from that package. All dots lie below the diagonal.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

import grimp

_ROW_PX, _COLUMN_PX, _NAME_PX, _TOP_PX = 30, 26, 120, 104
_TEXT_PX = 590
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.name{font-weight:600}"
    ".far{fill:#666}.row{fill:#f4f6f8}.dot{fill:#2463a4}.own{fill:#c9d4df}"
)


def packages_picture(root: Path) -> str:
    """The picture as SVG.

    Args:
        root: The checkout's root.
    """
    names = ["flows", "tasks", *_layers(root)]
    arrows = _arrows()
    left = _NAME_PX + _TEXT_PX
    width, height = left + len(names) * _COLUMN_PX + 8, _TOP_PX + len(names) * _ROW_PX + 6
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        "<title>The packages from top to bottom, and which of those below each imports</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="8" y="20" class="far">each imports only from those below it; a dot says from '
        "which</text>",
    ]
    for column, name in enumerate(names):
        x = left + column * _COLUMN_PX + _COLUMN_PX / 2 + 4
        lines.append(f'<text transform="translate({x} {_TOP_PX - 8}) rotate(-60)">{name}</text>')
    for row, name in enumerate(names):
        y = _TOP_PX + row * _ROW_PX
        if row % 2 == 0:
            lines.append(f'<rect x="0" y="{y}" width="{width}" height="{_ROW_PX}" class="row"/>')
        lines.append(f'<text x="8" y="{y + 20}" class="name">{name}</text>')
        lines.append(f'<text x="{_NAME_PX}" y="{y + 20}">{escape(_concern(root, name))}</text>')
        for column, other in enumerate(names):
            x = left + column * _COLUMN_PX + _COLUMN_PX / 2
            if other == name:
                lines.append(f'<circle cx="{x}" cy="{y + 15}" r="3" class="own"/>')
            elif other in arrows[name]:
                lines.append(f'<circle cx="{x}" cy="{y + 15}" r="6" class="dot"/>')
    return "\n".join([*lines, "</svg>", ""])


def _layers(root: Path) -> list[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one.get("containers") == ["graftline"])
    return [str(layer) for layer in layers]


def _folder(root: Path, name: str) -> Path:
    return root / name if name in ("flows", "tasks") else root / "graftline" / name


def _concern(root: Path, name: str) -> str:
    """The first sentence of the package's docstring, without its stop."""
    tree = ast.parse((_folder(root, name) / "__init__.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")


def _arrows() -> dict[str, set[str]]:
    """By package, those that it imports from."""
    graph = grimp.build_graph("flows", "tasks", "graftline", cache_dir=None)
    arrows: dict[str, set[str]] = {}
    for importer in graph.modules:
        found = arrows.setdefault(_package(importer), set())
        found |= {_package(one) for one in graph.find_modules_directly_imported_by(importer)}
    return arrows


def _package(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[1:2]) if parts[0] == "graftline" else parts[0]
