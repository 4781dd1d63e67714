"""Lists the licences of everything that an installation brings: each wheel, and the libraries bundled in it.

    python tools/licences.py [--page docs/reference/licences.md]

It reads the environment of the interpreter that runs it, without the extras of gridhead: the licence in the metadata of
each installed dependency, and the shared libraries in its wheel by the table below; FFmpeg's libraries are asked for
their licence. With --page the tables of that page are replaced; without it they are printed.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # these files, not an installed copy

from detect.errors import UserError, in_one_line  # noqa: E402
from detect.utils.atomic_io import replace_text  # noqa: E402

BEGIN = "<!-- written by tools/licences.py -->"
_HASH = re.compile(r"-[0-9a-f]{8}|\.[0-9a-f]{8}(?=\.)")  # in the name of a bundled file, to make it unique
_MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated"
_X11, _GPL2, _LGPL2 = "MIT (X11)", "GPL-2.0-or-later", "LGPL-2.1-or-later"
_GNU_RUNTIME, _EITHER = "GPL-3.0-or-later WITH GCC-exception-3.1", "LGPL-3.0-or-later OR GPL-2.0-or-later"
_NVIDIA = "NVIDIA's own, proprietary"
# Prefix of a library's name -> (project, licence); None: the library reports it. The longest prefix that fits counts.
BUNDLED: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(("avcodec", "avdevice", "avfilter", "avformat", "avutil"), ("FFmpeg", None)),
    **dict.fromkeys(("swresample", "swscale", "postproc"), ("FFmpeg", None)),
    "x264": ("x264", _GPL2),
    "x265": ("x265", _GPL2),
    "gnutls": ("GnuTLS", _LGPL2),
    "nettle": ("Nettle", _EITHER),
    "hogweed": ("Nettle", _EITHER),
    "gmp": ("GMP", _EITHER),
    "unistring": ("libunistring", _EITHER),
    "idn2": ("libidn2", _EITHER),
    "tasn1": ("libtasn1", _LGPL2),
    "mp3lame": ("LAME", "LGPL-2.0-or-later"),
    "asound": ("alsa-lib", _LGPL2),
    "opencore-amr": ("opencore-amr", "Apache-2.0"),
    "opus": ("Opus", "BSD-3-Clause"),
    "vpx": ("libvpx", "BSD-3-Clause"),
    "vpl": ("libvpl", "MIT"),
    "dav1d": ("dav1d", "BSD-2-Clause"),
    "aom": ("libaom", "BSD-2-Clause"),
    "avif": ("libavif", "BSD-2-Clause"),
    "SvtAv1": ("SVT-AV1", "BSD-3-Clause-Clear"),
    "webp": ("libwebp", "BSD-3-Clause"),
    "sharpyuv": ("libwebp", "BSD-3-Clause"),
    "drm": ("libdrm", "MIT"),
    **dict.fromkeys(("xcb", "Xau", "X11", "Xext"), ("X.Org", _X11)),
    "crypto": ("OpenSSL", None),
    "ssl": ("OpenSSL", None),
    "Qt": ("Qt", "LGPL-3.0-only OR GPL-2.0-only OR commercial"),
    "gfortran": ("GCC's runtime", _GNU_RUNTIME),
    "gomp": ("GCC's runtime", _GNU_RUNTIME),
    "stdc++": ("GCC's runtime", _GNU_RUNTIME),
    "gcc_s": ("GCC's runtime", _GNU_RUNTIME),
    "quadmath": ("GCC's libquadmath", _LGPL2),
    "openblas": ("OpenBLAS", "BSD-3-Clause"),
    "scipy_openblas": ("OpenBLAS", "BSD-3-Clause"),
    "png": ("libpng", "libpng-2.0"),
    "jpeg": ("libjpeg-turbo", "IJG AND BSD-3-Clause AND Zlib"),
    "tiff": ("LibTIFF", "libtiff"),
    "freetype": ("FreeType", "FTL OR GPL-2.0-only"),
    "harfbuzz": ("HarfBuzz", "MIT-Modern-Variant"),
    "brotli": ("Brotli", "MIT"),
    "lcms2": ("Little CMS", "MIT"),
    "lzma": ("XZ Utils", "0BSD"),
    "openjp2": ("OpenJPEG", "BSD-2-Clause"),
    "zstd": ("Zstandard", "BSD-3-Clause OR GPL-2.0-only"),
    "z": ("zlib", "Zlib"),
    "omp": ("LLVM's OpenMP", "Apache-2.0 WITH LLVM-exception"),
    "cudart": ("CUDA", _NVIDIA),
    "nvjpeg": ("CUDA", _NVIDIA),
}


def dependencies() -> list[str]:
    """The lines of `dependencies` in pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]


def brought(lines: list[str]) -> dict[str, Distribution]:
    """Find the installed distributions of these requirements and of all that they require, by name.

    Raises:
        UserError: If one is not installed.
    """
    found: dict[str, Distribution] = {}
    left, seen = [(line, "") for line in lines], set[tuple[str, str]]()
    while left:
        line, extra = left.pop()
        if (line, extra) in seen:
            continue
        seen.add((line, extra))
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            one = found[canonicalize_name(requirement.name)] = distribution(requirement.name)
        except PackageNotFoundError as error:
            raise UserError(f"{requirement.name} is not installed: pip install . in a fresh environment") from error
        left += [(line, extra) for line in one.requires or [] for extra in ("", *requirement.extras)]
    return dict(sorted(found.items()))


def licence(one: Distribution) -> str:
    """Read the licence in a wheel's metadata: an SPDX expression, a short text, the classifiers, or MIT's own words."""
    expression, text = ((one.metadata.get_all(name) or [""])[0].strip() for name in ("License-Expression", "License"))
    named = [c.split(" :: ")[-1] for c in one.metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    short = text if "\n" not in text and len(text) < 60 else ""
    for declared in (expression, short, ", ".join(named), text.split("\n")[0]):
        if declared:
            return declared.removeprefix("OSI Approved :: ")
    files = [one.read_text(f"licenses/{name}") or "" for name in one.metadata.get_all("License-File") or []]
    return "MIT" if any(_MIT in " ".join(text.split()) for text in files) else "not declared"


def libraries(one: Distribution) -> Iterator[tuple[str, str, str]]:
    """Yield (project, file, licence) of each shared library of another project in a wheel."""
    for file in sorted(one.files or [], key=str):
        match = re.match(r"(?:lib)?(.+?)(?:[-.]|$)", file.name)
        apart = any(part.endswith((".libs", ".dylibs")) for part in file.parts)
        if not match or not re.search(r"\.(so|dylib|dll)\b", file.name):
            continue
        known = [name for name in BUNDLED if file.name.removeprefix("lib").startswith(name)]
        if not apart and match[1] not in ("gomp", "omp"):
            continue  # an extension module, or the library that the wheel exists for
        project, text = BUNDLED[max(known, key=len)] if known else ("unknown", "not in the table of this tool")
        yield project, file.name, text or asked(Path(str(one.locate_file(file))), match[1])


def asked(path: Path, name: str) -> str:
    """Read the licence that a library of FFmpeg or OpenSSL reports."""
    if name in ("crypto", "ssl"):
        version = re.search(rb"OpenSSL (\d+\.\d+\.\d+\w*)", path.read_bytes())
        old = version is not None and version[1].startswith((b"0.", b"1."))
        return f"{'OpenSSL and SSLeay' if old else 'Apache-2.0'}" + (f" ({version[1].decode()})" if version else "")
    try:
        say = getattr(ctypes.CDLL(str(path)), f"{name}_license")
    except (OSError, AttributeError) as error:
        return f"LGPL or GPL, as it was built (it cannot be asked: {error})"
    say.restype = ctypes.c_char_p
    return f"{say().decode()}, in its own words"


def tables(found: dict[str, Distribution]) -> str:
    """Format both tables in Markdown: every wheel, and every library bundled in one."""
    direct = {canonicalize_name(Requirement(line).name) for line in dependencies()}
    lines = ["## Every wheel", "", "| wheel | version | licence, as it declares it |", "| --- | --- | --- |"]
    for name, one in found.items():
        lines.append(f"| {f'**{name}**' if name in direct else name} | {one.version} | {licence(one)} |")
    lines += ["", "## Every library bundled in a wheel", "", "| wheel | library | licence | files |"]
    lines.append("| --- | --- | --- | --- |")
    for name, one in found.items():
        files: dict[tuple[str, str], set[str]] = {}
        for project, file, text in libraries(one):
            files.setdefault((project, text), set()).add(_HASH.sub("", file))
        for (project, text), names in sorted(files.items(), key=lambda item: item[0][0].lower()):
            lines.append(f"| {name} | {project} | {text} | {', '.join(sorted(names))} |")
    return "\n".join(lines) + "\n"


@in_one_line
def main() -> None:
    """Print the tables, or write them to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="replace everything after this tool's marker in that page")
    page = parser.parse_args().page
    written = tables(brought(dependencies()))
    if page is None:
        print(written, end="")
        return
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text:
        raise UserError(f"{page} has no line {BEGIN}: the tables go after it")
    replace_text(page, f"{text.split(BEGIN)[0]}{BEGIN}\n\n{written}")


if __name__ == "__main__":
    sys.exit(main())
