"""Containers and protocols that FFmpeg may open for a source, whatever the content of the source asks for.

FFmpeg chooses a demuxer by the content of a file. Some of them open other files and addresses that the content names
(playlists, lists of files, session descriptions), or play text and subtitles; only those listed here are allowed.
"""

from __future__ import annotations

# FFmpeg's names of demuxers. None of these opens any file but the one that it is given.
_CONTAINERS = (
    "mov matroska avi mpegts mpeg mpegvideo mpegtsraw h264 hevc vvc m4v obu av1 ivf vc1 h261 h263 cavsvideo dirac flv "
    "asf ogg mxf gxf dv nut rm wtv dhav yuv4mpegpipe mjpeg mpjpeg "
    "gif apng jpeg_pipe png_pipe webp_pipe bmp_pipe tiff_pipe j2k_pipe jpegxl_pipe jpegxl_anim"
)
_PLAYLISTS = "hls dash aac mp3 ac3 eac3 webvtt"  # and what their parts hold besides video
_BY_SUFFIX = "image2"  # how FFmpeg opens an image of more than some kilobytes: by the end of its URL
_DEMUXERS = {"rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "live_flv", "rtmps": "live_flv"}
_DEMUXERS |= dict.fromkeys(("http", "https"), f"{_PLAYLISTS} {_BY_SUFFIX}")
_PROTOCOLS = {  # by scheme: itself, and what carries it; a playlist never leads from an address to a local file
    "file": "file",
    "http": "http https httpproxy tls tcp crypto data",
    "https": "https httpproxy tls tcp crypto data",
    "rtsp": "rtsp tcp",
    "rtsps": "rtsps tls tcp",
    "rtmp": "rtmp tcp",
    "rtmps": "rtmps tls tcp",
    "udp": "udp",
    "tcp": "tcp",
    "srt": "srt",
    "mms": "mms mmst mmsh http tcp",
}


def allowed(url: str) -> dict[str, str]:
    """FFmpeg's options that limit the containers, and, by the scheme of the URL, the protocols that it may open."""
    scheme = url.partition(":")[0].lower()
    containers = f"{_CONTAINERS} {_DEMUXERS.get(scheme, '')}"
    return {
        "format_whitelist": ",".join(containers.split()),
        "protocol_whitelist": ",".join(_PROTOCOLS[scheme].split()),
    }
