"""The rayfed that runs here as a wheel, for a cluster that does not have it."""

import base64
import hashlib
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

NAME = "rayfed-gan"
WHEEL = "Wheel-Version: 1.0\nGenerator: rayfed\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path) -> Path:
    """Write the wheel below a folder, in one that its content names: pip installs what it knows by its path once."""
    files = _package() | _about()
    info = f"{_stem()}.dist-info"
    rows = [f"{name},sha256={_hash(content)},{len(content)}" for name, content in files.items()]
    record = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    place = folder / ".rayfed" / hashlib.sha256(record).hexdigest()[:16]
    place.mkdir(parents=True)
    wheel = place / f"{_stem()}-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        for name, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(ZipInfo(name), content, ZIP_DEFLATED)
    return wheel


def _stem() -> str:
    return f"{NAME.replace('-', '_')}-{distribution(NAME).version}"


def _package() -> dict[str, bytes]:
    root = Path(__file__).parents[1]
    paths = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root.parent).as_posix(): path.read_bytes() for path in paths}


def _about() -> dict[str, bytes]:
    """The wheel's own folder, but for its list of files."""
    installed, info = distribution(NAME), f"{_stem()}.dist-info"
    texts = {
        "METADATA": installed.read_text("METADATA") or installed.read_text("PKG-INFO"),
        "entry_points.txt": installed.read_text("entry_points.txt"),
        "WHEEL": WHEEL,
    }
    return {f"{info}/{name}": text.encode() for name, text in texts.items() if text}


def _hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
