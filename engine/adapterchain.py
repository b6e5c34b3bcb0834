"""The keys of the adapters, and from them the adapters in their one published order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ganglion.engine.contracts import Adapter, DataSpec
from ganglion.engine.errors import ConfigError
from ganglion.engine.settings import Settings, setting
from ganglion.engine.transforms import Autoencode, Binarize, Corrupt, Crop, Flip, Frame, Rotate, Span


class AdapterSettings(Settings):
    """Which rows are used, and what is done to them; the steps follow in the order in which they stand."""

    range: tuple[int, ...] | None = setting(
        None, "training rows: N (the first N), START,END (END not included), or a list of rows", also=("trainSet",)
    )
    validation_set: tuple[int, ...] | None = setting(None, "rows of the training part to validate on, not learnt from")
    test_set: tuple[int, ...] | None = setting(
        None, "rows of the test part (of the training part without one) to test on"
    )
    vflip: float = setting(0.0, "probability of turning an image upside down", ge=0, le=1)
    hflip: float = setting(0.0, "probability of mirroring an image left to right", ge=0, le=1)
    rotation_theta: tuple[float, ...] | None = setting(
        None, "images are turned by a random angle: T for -T to T, or MIN,MAX; counter-clockwise", unit="radians"
    )
    rotation_center: bool | tuple[float, ...] = setting(
        True, "turn about the middle (true) or about X,Y", unit="pixels"
    )
    crop_width: tuple[int, ...] | None = setting(
        None,
        "width of a random patch, or MIN,MAX (resized to MAX); validation and test rows: the middle",
        unit="pixels",
    )
    crop_height: tuple[int, ...] | None = setting(
        None,
        "height of a random patch, or MIN,MAX (resized to MAX); validation and test rows: the middle",
        unit="pixels",
    )
    crop_padding: int = setting(0, "border added around an image before it is cropped", unit="pixels", ge=0)
    frame: tuple[int, ...] | None = setting(
        None,
        "size HEIGHT,WIDTH (or CHANNELS,HEIGHT,WIDTH) to resize images to: proportions kept, what sticks out is cut",
    )
    binarize: bool | float = setting(False, "values above the threshold become 1, others 0; true is a threshold of 0.5")
    autoencode: bool = setting(False, "the target is the input itself")
    encoder_noise: float = setting(0.0, "with autoencode: standard deviation of noise added to the input", ge=0)
    encoder_drop: float = setting(0.0, "with autoencode: share of input values set to 0", ge=0, le=1)


# --- from settings to adapters ------------------------------------------------------------------------------------

Maker = Callable[[AdapterSettings, DataSpec], Adapter | None]


def _make_flip(name: str, dimension: int) -> Maker:
    def make(settings: AdapterSettings, spec: DataSpec) -> Adapter | None:
        probability = getattr(settings, name)
        if probability == 0.0:
            return None
        _require_image(name, spec)
        return Flip(probability, dimension)

    return make


def _make_rotate(settings: AdapterSettings, spec: DataSpec) -> Adapter | None:
    theta = settings.rotation_theta
    if theta is None:
        return None
    _require_image("rotationTheta", spec)
    given = f"rotationTheta={','.join(f'{angle:g}' for angle in theta)}"
    low, high = (-abs(theta[0]), abs(theta[0])) if len(theta) == 1 else (theta[0], theta[-1])
    if len(theta) not in (1, 2) or low > high or not max(abs(low), abs(high)) <= 2 * math.pi:
        raise ConfigError(
            f"{given}: expected T or MIN,MAX in radians, within -6.2832 to 6.2832 (15 degrees are 0.2618)"
        )
    height, width = spec.shape[-2:]
    center: Sequence[float] | bool = settings.rotation_center
    if center is True:
        center = ((width - 1) / 2, (height - 1) / 2)
    if center is False or len(center) != 2:
        raise ConfigError("rotationCenter: expected true (the middle of the image) or X,Y in pixels")
    return Rotate((low, high), (center[0], center[1]), _background(spec))


def _make_crop(settings: AdapterSettings, spec: DataSpec) -> Adapter | None:
    if settings.crop_width is None and settings.crop_height is None:
        if settings.crop_padding:
            raise ConfigError(f"cropPadding={settings.crop_padding} needs cropWidth or cropHeight")
        return None
    _require_image("cropWidth" if settings.crop_width is not None else "cropHeight", spec)
    padding = settings.crop_padding
    heights = _crop_sizes("cropHeight", settings.crop_height, spec.shape[-2], padding)
    widths = _crop_sizes("cropWidth", settings.crop_width, spec.shape[-1], padding)
    return Crop(heights, widths, padding, _background(spec))


def _crop_sizes(key: str, value: Sequence[int] | None, length: int, padding: int) -> Span:
    if value is None:  # one of the two may be left out: that side keeps its length
        return (length, length)
    low, high = value[0] if value else 0, value[-1] if value else 0
    if len(value) > 2 or not 1 <= low <= high <= length + 2 * padding:
        given = ",".join(str(number) for number in value)
        raise ConfigError(
            f"{key}={given}: expected N or MIN,MAX from 1 to {length + 2 * padding}, "
            f"the image's {length} pixels and twice cropPadding={padding}"
        )
    return (low, high)


def _make_frame(settings: AdapterSettings, spec: DataSpec) -> Adapter | None:
    if settings.frame is None:
        return None
    _require_image("frame", spec)
    size = (spec.shape[0], *settings.frame) if len(settings.frame) == 2 else settings.frame
    if len(size) != 3 or size[0] != spec.shape[0] or min(size) < 1:
        given = ",".join(str(number) for number in settings.frame)
        channels = spec.shape[0]
        raise ConfigError(
            f"frame={given}: expected HEIGHT,WIDTH, or {channels},HEIGHT,WIDTH for {channels}-channel images"
        )
    return Frame((size[1], size[2]))


def _make_binarize(settings: AdapterSettings, spec: DataSpec) -> Adapter | None:
    if settings.binarize is False:
        return None
    return Binarize(0.5 if settings.binarize is True else float(settings.binarize))


def _make_autoencode(settings: AdapterSettings, spec: DataSpec) -> Adapter | None:
    return Autoencode() if settings.autoencode else None


def _make_corrupt(settings: AdapterSettings, spec: DataSpec) -> Adapter | None:
    if not settings.encoder_noise and not settings.encoder_drop:
        return None
    if not settings.autoencode:
        raise ConfigError("encoderNoise and encoderDrop need autoencode=true: the clean input is their target")
    return Corrupt(settings.encoder_noise, settings.encoder_drop)


def _require_image(key: str, spec: DataSpec) -> None:
    if spec.kind != "image":
        raise ConfigError(f"{key} is for images, and these data are of kind {spec.kind} with shape {spec.shape}")


def _background(spec: DataSpec) -> float:
    return 0.0 if spec.value_range is None else spec.value_range[0]


ORDER: tuple[tuple[str, Maker], ...] = (
    ("vflip", _make_flip("vflip", -2)),
    ("hflip", _make_flip("hflip", -1)),
    ("rotationTheta", _make_rotate),
    ("cropWidth", _make_crop),
    ("frame", _make_frame),
    ("binarize", _make_binarize),
    ("autoencode", _make_autoencode),
    ("encoderNoise", _make_corrupt),
)


def make_adapters(settings: AdapterSettings, spec: DataSpec) -> list[Adapter]:
    """The adapters that the settings ask for, in the published order. Raises ConfigError where one does not fit."""
    adapters: list[Adapter] = []
    for _, make in ORDER:
        adapter = make(settings, spec)
        if adapter is not None:
            spec = adapter.spec(spec)
            adapters.append(adapter)
    return adapters
