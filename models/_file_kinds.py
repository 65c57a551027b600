"""Tell by its first bytes what a file is that was given as a checkpoint."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import Literal

from ..errors import UserError

Kind = Literal["pickle", "safetensors", "npz"]

AGAIN = "download it again"
UNPACK = "unpack it and give the checkpoint inside"
CONVERT = "convert it to PyTorch or safetensors first, or look for the release's PyTorch file"
SIGNATURES = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself", "run `git lfs pull`, or " + AGAIN),
    (b"<?xml", "an XML page, which servers send instead of a file that they refuse", AGAIN),
    (b"{", "a JSON file", "give the file of weights beside it, or the folder"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", CONVERT),
    (b"GGUF", "a GGUF file", CONVERT),
    (b"\x93NUMPY", "a single NumPy array", "give a file of all weights"),
    (b"\x1f\x8b", "a gzip archive", UNPACK),
    (b"BZh", "a bzip2 archive", UNPACK),
    (b"\xfd7zXZ", "an xz archive", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!", "a RAR archive", UNPACK),
    (b"\x1aE\xdf\xa3", "a video", "give the model's weights"),
    (b"RIFF", "a video", "give the model's weights"),
    (b"PAR1", "a parquet file", "give the model's weights"),
    (b"\x00" * 64, "a file that begins with zeros, an incomplete download", AGAIN),
)
TENSORFLOW_INDEX = bytes.fromhex("57fb808b247547db")  # ends the table of a TensorFlow checkpoint
SUFFIXES = {
    ".ckpt.meta": "part of a TensorFlow checkpoint", ".index": "part of a TensorFlow checkpoint",
    ".pb": "a TensorFlow graph", ".tflite": "a TensorFlow Lite model", ".onnx": "an ONNX model",
    ".h5": "a Keras file", ".keras": "a Keras file", ".msgpack": "a Flax file", ".engine": "a TensorRT engine",
}  # fmt: skip


def kind(path: Path) -> Kind:
    """Return how to read a file of weights. Raises UserError, which says what the file is, if it is none."""
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - 8))
        tail = file.read()
    if _is_safetensors(head, size):
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    found = _foreign(path, head, tail)
    if found is not None:
        raise UserError(f"{path} is {found[0]}: {found[1]}")
    return "pickle"


def _is_safetensors(head: bytes, size: int) -> bool:
    """The length of a JSON header, then the header."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _foreign(path: Path, head: bytes, tail: bytes) -> tuple[str, str] | None:
    """Return what the file is and the remedy, None if it may be a pickle."""
    if not head:
        return "empty", AGAIN
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<!--")):
        return "an HTML page, which Google Drive and others send instead of a file", f"{AGAIN}, in a browser"
    for signature, name, remedy in SIGNATURES:
        if head.startswith(signature) and (signature != b"RIFF" or head[8:12] == b"AVI "):
            return name, remedy
    if head[4:8] == b"ftyp":
        return "a video", "give the model's weights"
    if tarfile.is_tarfile(path):
        return "a tar archive", UNPACK
    if tail == TENSORFLOW_INDEX or ".data-0000" in path.name:
        return "part of a TensorFlow checkpoint", CONVERT
    name = next((name for suffix, name in SUFFIXES.items() if path.name.endswith(suffix)), None)
    if name is not None and not head.startswith(b"\x80"):
        return name, CONVERT
    if path.suffix == ".safetensors" and not head.startswith(b"\x80"):
        return "no readable safetensors file, or cut short", AGAIN
    return ("a text file", "give the model's weights") if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    # Pickles of protocol 0 are text too, but end in a dot and hold no whole words.
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head) and b" " in head


def _zip_kind(path: Path) -> Kind:
    try:
        names = zipfile.ZipFile(path).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise UserError(f"{path} is damaged or cut short, an incomplete download or copy: {AGAIN}") from None
    if any(name.endswith("/data.pkl") for name in names):
        return "pickle"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise UserError(f"{path} is a zip archive of {', '.join(names[:3]) or 'nothing'}, no checkpoint: {UNPACK}")
