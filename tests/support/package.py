"""A package of somebody else's, as pip would have installed it."""

from pathlib import Path


def install(folder: Path, module: str, source: str, group: str, points: dict[str, str]) -> None:
    """Write a module of one file into `folder`, with the entry points that its distribution names in `group`."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = (f"{name} = {target}" for name, target in points.items())
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
