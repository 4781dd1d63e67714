"""Which image formats can be read, and which files look like images, by their names or first bytes."""

from __future__ import annotations

from pathlib import PurePath

from PIL import features

# The only formats that Pillow may open, by its names, and the suffixes of their files. PostScript must never be here:
# Pillow runs a program on it. TGA has no signature, so it is tried last.
_FORMATS = {
    "JPEG": ".jpg .jpeg .jpe .jfif .jif .mpo",
    "PNG": ".png .apng",
    "BMP": ".bmp",
    "DIB": ".dib",
    "GIF": ".gif",
    "PPM": ".ppm .pgm .pbm .pnm",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
    "AVIF": ".avif",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "QOI": ".qoi",
    "PCX": ".pcx",
    "SGI": ".sgi .rgb .rgba .bw",
    "SUN": ".ras",
    "TGA": ".tga .icb .vda .vst",
}
_OPTIONAL = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}  # decoders that a build of Pillow may lack
FORMATS = tuple(name for name in _FORMATS if name not in _OPTIONAL or features.check(_OPTIONAL[name]))
SUFFIXES = frozenset(suffix for name in FORMATS for suffix in _FORMATS[name].split())
# Suffixes of images in formats that cannot be decoded here: phones, cameras' raw files, medicine, light in floats.
_UNDECODED = """
.heic .heif .heics .heifs .hif .jxl .jxr .wdp .hdp .avifs .exr .hdr .pfm .dcm .dicom .dng .raw .cr2 .cr3 .crw .nef .nrw
.arw .sr2 .srf .srw .orf .rw2 .rwl .raf .pef .ptx .3fr .fff .erf .kdc .dcr .mrw .mef .mos .iiq .x3f .gpr
"""
UNREADABLE = frozenset(" ".join([_UNDECODED, *_FORMATS.values()]).split()) - SUFFIXES
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"qoif")
PAGED = frozenset({".tif", ".tiff", ".gif", ".webp", ".apng", ".avif"})  # whose files may hold several pages


def is_image(path: PurePath) -> bool:
    """Whether a file is an image, by its suffix; hidden files (such as macOS leaves behind) are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def is_unreadable(path: PurePath) -> bool:
    """Whether a file is an image in a format that cannot be decoded, such as HEIC or raw files, by its suffix."""
    return path.suffix.lower() in UNREADABLE and not path.name.startswith(".")


def has_signature(data: bytes) -> bool:
    """Whether the first 12 bytes or more of a file are those of a common image format, whatever its name is."""
    return data.startswith(_SIGNATURES) or data[8:12] in (b"WEBP", b"heic", b"heix", b"mif1", b"avif")
