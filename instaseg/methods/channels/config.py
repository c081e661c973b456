"""Tables ``[method]`` and ``[vote_instances]`` of the method ``channels``, and removed keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from instaseg.methods.channels.legacy import GENERATIONS, Generation, translate
from instaseg.methods.config import InstanceClassesSettings
from instaseg.settings import Table

ChannelName = Literal[
    "interior",
    "foreground",
    "background",
    "contour",
    "distance",
    "signed_distance",
    "ridge",
    "centre",
    "centre_distance",
    "neighbour_distance",
    "offset_z",
    "offset_y",
    "offset_x",
    "flow",
    "rays",
    "affinities",
    "touching",
]
CHANNEL_NAMES: tuple[ChannelName, ...] = get_args(ChannelName)
Loss = Literal["bce", "l1", "mse"]
Polarity = Literal["high_inside", "low_inside", "none"]
Positive = Annotated[float, Field(gt=0)]


def _as_list(value: object) -> object:
    """Return a text as the list of that one text."""
    return [value] if isinstance(value, str) else value


class LengthTable(Table):
    """A table with lengths that follow the size of a voxel where they are left out."""

    SIDES: ClassVar[Mapping[str, float]] = {}
    """Keys with a length, and what it is where it is left out, in smallest sides of a voxel."""

    def length(self, key: str, spacing: Sequence[float]) -> float:
        """Return a length in physical units.

        Parameters
        ----------
        key : str
            One of `SIDES`.
        spacing : sequence of float
            Size of a voxel along each axis, in physical units.

        Examples
        --------
        >>> CentreSettings().length("radius", (2.0, 0.5))
        1.5
        >>> CentreSettings(radius=4.0).length("radius", (2.0, 0.5))
        4.0
        """
        given: float | None = getattr(self, key)
        return self.SIDES[key] * min(spacing) if given is None else given


class ContourSettings(Table):
    """``[method.contour]``: what belongs to a contour."""

    mode: Literal["thick", "inner", "outer", "dense", "dense_legacy"] = "thick"
    """Voxels on both sides of a border (`thick`), of instances only (`inner`), of the background
    and, where instances touch, of both (`outer`), the background next to the foreground (`dense`),
    or everything that is not deep inside an instance, as in BiaPy until 3.5 (`dense_legacy`)."""

    thickness: Positive | None = None
    """Width on either side of the border, in physical units, measured from voxel centre to voxel
    centre; one voxel along each axis where it is left out. Not for the dense modes."""


class DistanceSettings(Table):
    """``[method.distance]``: distance to the border of the own instance."""

    scale: Literal["instance", "physical"] = "instance"
    """From 0 at the border to 1 at the deepest voxel of each instance, or in physical units."""

    polarity: Literal["high_inside", "low_inside"] = "high_inside"
    """Whether values are high at centres, or low there and high at borders."""

    border_of: Literal["instance", "interior"] = "instance"
    """Measure to the border of the instance, or of what its contour leaves of it."""

    learnt: Literal["foreground", "everywhere"] = "foreground"
    """Where the loss counts; background is 0."""


class SignedDistanceSettings(LengthTable):
    """``[method.signed_distance]``: distance to the border, negative outside."""

    SIDES: ClassVar[Mapping[str, float]] = {"alpha": 10.0}

    scale: Literal["instance", "tanh"] = "instance"
    """Inside 0 to 1 for each instance and -1 in the background, or `tanh(distance / alpha)` on both
    sides."""

    alpha: Positive | None = None
    """Distance in physical units at which `tanh` reaches 0.76; 10 times the smallest side of a
    voxel where it is left out."""


class RidgeSettings(LengthTable):
    """``[method.ridge]``: high on contours, low inside instances and far away from them."""

    SIDES: ClassVar[Mapping[str, float]] = {"cap": 20.0}

    scale: Literal["instance", "image"] = "instance"
    """Fall to 0 at the centre of every instance, and `cap` away from them; or scale by the largest
    distances in the image, as BiaPy did before 3.0, which cannot be learnt from crops."""

    cap: Positive | None = None
    """Distance from instances, in physical units, at which the background reaches 0; 20 times the
    smallest side of a voxel where it is left out."""


class CentreSettings(LengthTable):
    """``[method.centre]``: where the middle of each instance is."""

    SIDES: ClassVar[Mapping[str, float]] = {"radius": 3.0}

    kind: Literal["point", "gauss", "skeleton"] = "point"
    """A ball around the voxel nearest the centre of mass, a bell curve around it, or a tube around
    the skeleton; each inside its instance."""

    radius: Positive | None = None
    """Radius of ball and tube, standard deviation of the bell curve, in physical units; 3 times the
    smallest side of a voxel where it is left out."""


class CentreDistanceSettings(Table):
    """``[method.centre_distance]``: distance to the middle of the own instance."""

    kind: Literal["point", "skeleton"] = "point"
    """Measure to the centre of mass or to the nearest voxel of the skeleton."""

    scale: Literal["instance", "physical"] = "instance"
    """From 0 to 1 in each instance, or in physical units."""


class NeighbourDistanceSettings(LengthTable):
    """``[method.neighbour_distance]``: high where another instance is near."""

    SIDES: ClassVar[Mapping[str, float]] = {"cap": 20.0}

    scale: Literal["instance", "physical"] = "instance"
    """From 1 next to another instance to 0 at the farthest voxel of each instance, or 1 to 0 within
    `cap` of another instance."""

    cap: Positive | None = None
    """Distance in physical units at which `physical` reaches 0; 20 times the smallest side of a
    voxel where it is left out."""

    closing: int = Field(default=3, ge=1)
    """Voxels of a grey closing; 1 leaves values as they are."""

    power: Positive = 3.0
    """Values are raised to it: higher makes them fall faster."""


class OffsetSettings(Table):
    """``[method.offset]``: where a voxel lies, seen from the centre of its instance."""

    scale: Literal["instance", "physical"] = "instance"
    """From -1 to 1 in each instance, or in physical units."""


class FlowSettings(Table):
    """``[method.flow]``: direction to the centre of the own instance, along diffused heat."""

    factor: Positive = 5.0
    """The loss compares vectors that are this long; predictions are unit vectors."""


class RaysSettings(Table):
    """``[method.rays]``: distances to the border of the own instance in fixed directions."""

    number: int | None = Field(default=None, ge=3)
    """Number of directions; 32 in images and 96 in volumes where it is left out."""


class AffinitySettings(Table):
    """``[method.affinities]``: whether voxels at some offsets belong to the same instance."""

    offsets: tuple[tuple[int, ...], ...] = ()
    """Offsets `[z, y, x]` or `[y, x]` in voxels; the voxel before along every axis where there are
    none."""

    widen_borders: int = Field(default=0, ge=0)
    """Voxels from which another instance is at most so far in the plane count as background."""


class TouchingSettings(Table):
    """``[method.touching]``: voxels of an instance next to another one."""

    thickness: Positive | None = None
    """How near the other one is, in physical units; a neighbour, also across corners, where it is
    left out."""


class BorderWeightSettings(LengthTable):
    """``[method.border_weight]``: background between instances counts more in the loss."""

    SIDES: ClassVar[Mapping[str, float]] = {"sigma": 5.0}

    strength: float = Field(default=0.0, ge=0)
    """Added weight where two instances meet; 0 adds none."""

    sigma: Positive | None = None
    """How fast it falls with the distances to the two nearest instances, in physical units; 5 times
    the smallest side of a voxel where it is left out."""


class ChannelsSettings(Table):
    """``[method]``: what the network of the method ``channels`` predicts."""

    name: Literal["channels"] = "channels"
    """Name of the method."""

    channels: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ("foreground", "contour")
    """Names of channels in any order; or BiaPy's letters, such as `"BCD"` or `["F", "C"]`, whose
    meaning `letters` tells."""

    letters: Generation | None = None
    """The versions of BiaPy whose letters stand in `channels`: the same letter means different
    things in them."""

    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Weight of each channel in the loss, in the order of `channels`; 1 where it is left out."""

    losses: tuple[Literal["default", "bce", "l1", "mse"], ...] = ()
    """Loss of each channel, in the order of `channels`: binary cross entropy, mean absolute or
    squared error; the channel's own where it is left out."""

    class_balance: Literal["none", "batch"] = "none"
    """Count the rarer side of binary channels more, by the ratio of both in the batch."""

    class_balance_limit: float = Field(default=19.0, ge=1)
    """Largest factor of `class_balance`."""

    mask_bg_weight: float = Field(default=0.0, ge=0, le=1)
    """Weight in the loss of background where the mask says that labels are incomplete; labelled
    instances always count 1."""

    context: tuple[Annotated[int, Field(ge=0)], ...] = (32,)
    """Voxels around a crop that its targets may see, one for each axis or one for all: distances
    of instances that reach farther out are measured to there. Channels that need less take less."""

    contour: ContourSettings = ContourSettings()
    """Contours; also what `interior` and `ridge` are made of."""
    distance: DistanceSettings = DistanceSettings()
    """Distance to the border."""
    signed_distance: SignedDistanceSettings = SignedDistanceSettings()
    """Distance to the border, negative outside."""
    ridge: RidgeSettings = RidgeSettings()
    """High on contours."""
    centre: CentreSettings = CentreSettings()
    """Middle of instances."""
    centre_distance: CentreDistanceSettings = CentreDistanceSettings()
    """Distance to the middle."""
    neighbour_distance: NeighbourDistanceSettings = NeighbourDistanceSettings()
    """Nearness of other instances."""
    offset: OffsetSettings = OffsetSettings()
    """Offsets from the centre, of `offset_z`, `offset_y` and `offset_x`."""
    flow: FlowSettings = FlowSettings()
    """Directions to the centre."""
    rays: RaysSettings = RaysSettings()
    """Distances to the border in fixed directions."""
    affinities: AffinitySettings = AffinitySettings()
    """Whether two voxels belong together."""
    touching: TouchingSettings = TouchingSettings()
    """Where instances touch."""
    border_weight: BorderWeightSettings = BorderWeightSettings()
    """Weight of the background between instances."""
    instance_classes: InstanceClassesSettings = InstanceClassesSettings()
    """Classes of instances: a head that tells of which class a voxel's instance is."""

    @model_validator(mode="before")
    @classmethod
    def _letters_become_names(cls, values: Any) -> Any:
        """Put names in place of letters, and the keys they imply where none are given."""
        if not isinstance(values, Mapping) or not isinstance(values.get("channels"), _LIST):
            return values
        words = _as_list(values["channels"])
        assert isinstance(words, (list, tuple))
        if not all(isinstance(word, str) for word in words):
            return values
        letters = values.get("letters")
        meaning = translate(words, CHANNEL_NAMES, letters if letters in GENERATIONS else None)
        tables = {
            name: {**implied, **_given(values.get(name))}
            for name, implied in meaning.settings.items()
        }
        losses = {"losses": meaning.losses} if meaning.losses else {}
        return {**losses, **values, **tables, "channels": meaning.names}

    @field_validator("channels")
    @classmethod
    def _some_channel(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must be one channel or more; got []")
        return value

    @model_validator(mode="after")
    def _lists_fit(self) -> Self:
        for key in ("weights", "losses"):
            found = getattr(self, key)
            if found and len(found) != len(self.channels):
                raise ValueError(
                    f"{key} must have one value for each of the {len(self.channels)} channels"
                    f" {', '.join(self.channels)}; got {len(found)}; change one of them"
                )
        if self.weights and not any(self.weights):
            raise ValueError("weights must not all be 0: nothing would be learnt")
        if "ridge" in self.channels and self.contour.mode == "dense_legacy":
            raise ValueError(
                'contour.mode "dense_legacy" makes all of the background contour, which "ridge"'
                ' cannot use; choose "thick" or "inner"'
            )
        return self


_LIST = (str, list, tuple)


def _given(table: object) -> dict[str, Any]:
    """Return the keys of a table that somebody has written."""
    if isinstance(table, Table):
        return table.model_dump(exclude_unset=True)
    return dict(table) if isinstance(table, Mapping) else {}


Threshold = float | Literal["otsu", "otsu_half"]
"""A number in a channel's own values, or how to find one from all values of an image."""
Step = Literal["dilate", "erode", "open", "close"]
Radius = Annotated[float, Field(ge=0)]


class LabelSettings(Table):
    """``[vote_instances]``: how predicted channels become instances.

    Thresholds are in the channels' own values. Left out, they are those of the channel's default,
    see ``docs/methods/channels.md``; ``"otsu"`` finds one for each image from the values of the
    channel, ``"otsu_half"`` goes half the way from it to the channel's lowest value (its highest,
    where instances are low).
    """

    seed_foreground: Threshold | None = None
    """Foreground or interior above which a voxel may be a seed; 0.8 where it is left out. Higher
    values drop uncertain instances."""

    seed_contour: Threshold | None = None
    """Contour, touching, or jump of offsets, below which a voxel may be a seed; where it is left
    out, 0.2 for contours and 0.5 for the others. Lower values split more."""

    seed_distance: Threshold | None = None
    """Value of the channel with distances, or of the ridge, from which a voxel may be a seed; left
    out, half way to the deepest voxel, or the first voxels that are not at a border."""

    seed_centre: Threshold | None = None
    """Centre above which a voxel is a seed; 0.5 where it is left out."""

    seed_affinity: Threshold | None = None
    """Smallest affinity of a voxel to its neighbours above which it may be a seed of a fragment;
    0.5 where it is left out."""

    mask_foreground: Threshold | None = None
    """Foreground or interior above which a voxel belongs to an instance; 0.5 where it is left out.
    """

    mask_contour: Threshold | None = None
    """Contour below which a voxel belongs to an instance where nothing else is predicted; left out,
    every voxel does."""

    mask_distance: Threshold | None = None
    """Value of the channel with distances from which a voxel belongs to an instance; left out, it
    is used where no other channel says so."""

    mask_affinity: Threshold | None = None
    """Largest affinity of a voxel to its neighbours above which it belongs to an instance; 0.5
    where it is left out."""

    seed_channels: tuple[str, ...] | None = None
    """Channels whose thresholds make seeds, in place of the preset's."""

    mask_channels: tuple[str, ...] | None = None
    """Channels whose thresholds make the mask in which seeds grow, in place of the preset's; none
    of them lets seeds grow everywhere."""

    flooded_channels: tuple[str, ...] | None = None
    """Channels that are added up to the map that is flooded, in place of the preset's; none of them
    lets seeds grow at the same pace."""

    seed_smoothing: Radius = 0.0
    """Standard deviation, in physical units, of the bell curve that smooths channels before seeds
    are found."""

    surface_smoothing: Radius | None = None
    """The same for the map that is flooded; left out, the smallest side of a voxel, or 0 where the
    ridge is flooded."""

    seed_peaks: Radius = 0.0
    """Only voxels that no other exceeds within this radius, in physical units, are seeds: splits
    what thresholds leave connected; 0 takes all voxels."""

    seed_steps: tuple[Step, ...] = ()
    """What is done with seeds before they are told apart, in this order."""

    seed_radii: tuple[Radius, ...] = ()
    """Radius in physical units of each of `seed_steps`."""

    mask_steps: tuple[Step, ...] = ()
    """What is done with the mask in which seeds grow, in this order."""

    mask_radii: tuple[Radius, ...] = ()
    """Radius in physical units of each of `mask_steps`."""

    min_seed: float = Field(default=0.0, ge=0)
    """Seeds of a smaller area or volume, in physical units (voxels where their size is 1), are
    dropped."""

    unseeded: Literal["keep", "drop"] = "keep"
    """Whether parts of the mask without a seed become instances where they are foreground: small
    ones often are all contour."""

    min_object: float = Field(default=0.0, ge=0)
    """Instances of a smaller area or volume, in physical units, are dropped."""

    max_object: float | None = Field(default=None, gt=0)
    """Area or volume, in physical units, from which a low region of the ridge is background; used
    where only the ridge is predicted."""

    background_seeds: Literal["border", "large", "border_or_large"] = "border_or_large"
    """Which low regions of the ridge are background where only the ridge is predicted: those that
    touch the image border, those larger than `max_object`, or both."""

    background_distance: Threshold | None = None
    """Ridge below which a voxel may be a seed of the background; `seed_distance` where it is left
    out."""

    background_radius: Radius | None = None
    """Distance from interior and contours, in physical units, from which a voxel is a seed of the
    background of the ridge; left out, two voxels along every axis."""

    star_overlap: float = Field(default=0.4, gt=0, le=1)
    """Intersection over union from which the less probable of two star shapes is dropped."""

    star_peaks: Radius = 1.5
    """A star shape's middle is at least as probable as all voxels within this radius, in sides of
    the smallest voxel; 0 takes all voxels."""

    star_paint: Literal["shape", "mask"] = "shape"
    """Instances are star shapes, or the mask, shared among the shapes that lie in it."""

    flow_steps: int = Field(default=200, ge=1)
    """Steps along the flow."""

    sink_hits: int = Field(default=10, ge=1)
    """Voxels that must end at a place to make it the middle of an instance."""

    flow_error: float | None = Field(default=None, gt=0)
    """Instances whose own flow differs from the predicted one by a larger mean squared error are
    dropped; left out, none are."""

    partition: Literal["fragments", "voxels"] = "fragments"
    """Mutex watershed of fragments, which are flooded first, or of single voxels, which takes
    longer and cannot work in blocks."""

    check_files: Literal["none", "write"] = "none"
    """Whether `seed_map`, `foreground` and `surface` are written beside the instances."""

    @model_validator(mode="after")
    def _steps_have_radii(self) -> Self:
        for what in ("seed", "mask"):
            steps, radii = getattr(self, f"{what}_steps"), getattr(self, f"{what}_radii")
            if len(steps) != len(radii):
                raise ValueError(
                    f"{what}_radii must have one radius for each of the {len(steps)} {what}_steps;"
                    f" got {len(radii)}; change one of them"
                )
        return self


_CHOSEN = 'thresholds are numbers or "otsu", or found by validate_checkpoints; use'

REMOVED_KEYS: dict[str, dict[str, str]] = {
    "method": {
        "DATA_CHANNELS": "use channels, and letters for the version whose letters they are",
        "DATA_CHANNEL_WEIGHTS": "use weights",
        "DATA_CHANNELS_LOSSES": "use losses",
        "DATA_CHANNELS_EXTRA_OPTS": "use the channels' own tables, such as [method.contour]",
        "DATA_CONTOUR_MODE": "use [method.contour] mode",
        "DISTANCE_CHANNEL_MASK": (
            'use [method.distance] learnt = "foreground" (True) or "everywhere" (False)'
        ),
        "CLASS_REBALANCE": 'use class_balance = "batch" (True) or "none" (False)',
        "CLASS_REBALANCE_WITHIN_CHANNELS": 'use class_balance = "batch" (True) or "none" (False)',
        "BORDER_EXTRA_WEIGHTS": "use [method.border_weight] strength and sigma",
        "INSTANCE_CHANNELS_DIR": "channels are made from the labels in training; remove it",
        "INSTANCE_CHANNELS_MASK_DIR": "channels are made from the labels in training; remove it",
        "INSTANCE_CREATION_PROCESS": "it follows from the channels; remove it",
    },
    "vote_instances": {
        "DATA_MW_TH_TYPE": f"{_CHOSEN} seed_foreground and the keys after it",
        "TH_TYPE": f"{_CHOSEN} seed_foreground and the keys after it",
        "DATA_MW_TH_BINARY_MASK": "use seed_foreground",
        "DATA_MW_TH_CONTOUR": "use seed_contour",
        "DATA_MW_TH_FOREGROUND": "use mask_foreground",
        "DATA_MW_TH_DISTANCE": "use seed_distance",
        "DATA_MW_TH_DIST_FOREGROUND": "use mask_distance",
        "DATA_MW_TH_POINTS": "use seed_centre",
        "TH_POINTS": "use seed_centre",
        "DATA_MW_OPTIMIZE_THS": "use [validation] params_product, and validate_checkpoints",
        "DATA_CHECK_MW": 'use check_files = "write" (True) or "none" (False)',
        "DATA_REMOVE_BEFORE_MW": "use min_seed; 0 keeps all",
        "DATA_REMOVE_SMALL_OBJ_BEFORE": "use min_seed",
        "DATA_REMOVE_SMALL_OBJ": "use min_object",
        "DATA_REMOVE_SMALL_OBJ_AFTER": "use min_object",
        "WATERSHED_CIRCULARITY": "use a rule on circularity in [postprocessing]",
        "SEED_CHANNELS": "use seed_channels",
        "SEED_CHANNELS_THRESH": "use seed_foreground, seed_contour, seed_distance and seed_centre",
        "TOPOGRAPHIC_SURFACE_CHANNEL": "use flooded_channels",
        "GROWTH_MASK_CHANNELS": "use mask_channels",
        "GROWTH_MASK_CHANNELS_THRESH": "use mask_foreground, mask_contour and mask_distance",
        "SEED_MORPH_SEQUENCE": "use seed_steps",
        "SEED_MORPH_RADIUS": "use seed_radii",
        "ERODE_AND_DILATE_FOREGROUND": 'use mask_steps = ["close"]',
        "ERODE_AND_DILATE_GROWTH_MASK": 'use mask_steps = ["close"]',
        "FORE_EROSION_RADIUS": "use mask_radii",
        "FORE_DILATION_RADIUS": "use mask_radii",
    },
}
"""BiaPy's keys of instance segmentation that users may look for, and what replaces each."""
