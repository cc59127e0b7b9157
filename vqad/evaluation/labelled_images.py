"""The test images of a category with their labels and masks, as folders and names say them.

An image's folder names its type of defect. Three layouts are known, in any case of the letters:

| data set | test images | masks |
|---|---|---|
| MVTec AD, LOCO, BTAD, MPDD | `test/{good,DEFECT}/*` | `ground_truth/DEFECT/NAME_mask.png` |
| MVTec AD 2 | `test_public/{good,DEFECT}/*` | `test_public/ground_truth/DEFECT/NAME_mask.png` |
| VisA | `Data/Images/{Normal,DEFECT}/*` by its split file | `Data/Masks/DEFECT/NAME.png` |

A data set without a folder of masks has labels all the same, and so its image metrics. This
module reads names only: it is used before an inspection, which may take hours.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from posixpath import basename, dirname, splitext

from vqad.images import visa_split
from vqad.images.good_folders import is_good
from vqad.images.listing import Listed, list_images
from vqad.storage import files, uris

GOOD = "good"  # the label of good images, however their folder is called

_TESTS = ("test", "test_public")
_MASKS = "ground_truth"
_SEPARATORS = "_-. "  # between the name of an image and the suffix of its mask


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """The test images of one category; all dictionaries are by image URI."""

    category: str
    images: list[Listed]  # sorted by URI
    defect_types: dict[str, str]  # GOOD, or the name of the image's folder
    masks: dict[str, list[str]] | None  # URIs, for defective images; None if there are no masks

    @property
    def limits(self) -> list[str]:
        """Metrics that are not defined on these images, with the reason, in lines for a person."""
        num_good = sum(each == GOOD for each in self.defect_types.values())
        found = []
        if not num_good:
            found.append(
                "there are no good test images, so image accuracy, image AUROC and the share of "
                "false alarms are not defined"
            )
        if num_good == len(self.images):
            found.append(
                "there are no defective test images, so only the share of false alarms is defined"
            )
        elif self.masks is None:
            found.append("there are no masks, so the pixel metrics are not defined")
        return found


@dataclass(frozen=True, kw_only=True)
class _Layout:
    images: str  # URI of the folder with a folder for each label
    masks: str  # URI of the folder that mirrors it
    split: dict[str, visa_split.Part] | None = None


def labelled_images(data: str, category: str) -> LabelledImages:
    """Find the test images, labels and masks of a category.

    Raises ValueError if there are no test images, if an image lies in no folder that names its
    defect, or if one of the defective images has no mask although others have.
    """
    layout = _layout(data, category)
    listed = [each for each in list_images(layout.images) if _is_wanted(each.image, layout)]
    if not listed:
        raise ValueError(f"no test images in {layout.images}; expected {_EXPECTED}")
    types = {each.image: _defect_type(each.image, layout.images) for each in listed}
    return LabelledImages(
        category=category,
        images=listed,
        defect_types=types,
        masks=_masks(layout, [image for image, each in types.items() if each != GOOD]),
    )


_EXPECTED = (
    f"test/good/* and test/DEFECT/* below the category, or VisA's {visa_split.IMAGES}/Normal/*"
)


def has_tests(data: str, category: str) -> bool:
    """True if the category has a folder of test images in one of the layouts."""
    folder = uris.join(data, category)
    children = _children(folder)
    return any(name in children for name in _TESTS) or _is_visa(folder, children)


def _layout(data: str, category: str) -> _Layout:
    folder = uris.absolute(uris.join(data, category))
    children = _children(folder)
    for name in _TESTS:
        if name in children:
            tests = uris.join(folder, children[name])
            # MVTec AD 2 has its masks below the test images.
            above, beside = next(
                (
                    (place, found)
                    for place in (folder, tests)
                    if _MASKS in (found := _children(place))
                ),
                (folder, {}),
            )
            return _Layout(images=tests, masks=uris.join(above, beside.get(_MASKS, _MASKS)))
    if _is_visa(folder, children):
        return _visa(data, category, uris.join(folder, visa_split.IMAGES))
    raise ValueError(f"no test images in {folder}; expected {_EXPECTED}")


def _is_visa(folder: str, children: dict[str, str]) -> bool:
    return "data" in children and files.exists(uris.join(folder, visa_split.IMAGES))


def _visa(data: str, category: str, images: str) -> _Layout:
    split = visa_split.read_split(data, category)
    if split is None:
        raise ValueError(
            f"{uris.join(data, visa_split.SPLIT_FILE)} is missing: it says which images of "
            f"{images} are for testing; give VisA's own split file"
        )
    folder = uris.absolute(uris.join(data, category))
    return _Layout(images=images, masks=uris.join(folder, visa_split.MASKS), split=split)


def _children(folder: str) -> dict[str, str]:
    """Names below a folder by their lower case; none if it is not a folder."""
    try:
        return {name.casefold(): name for name in reversed(files.list_names(folder))}
    except (ValueError, OSError):
        return {}


def _is_wanted(image: str, layout: _Layout) -> bool:
    if layout.split is not None:
        return layout.split.get(image) == "test"
    return not image.startswith(f"{layout.masks}/")


def _defect_type(image: str, root: str) -> str:
    folder, separator, _ = uris.relative(image, root).partition("/")
    if not separator:
        raise ValueError(
            f"{image} lies in no folder that names its defect; expected {root}/good/* or "
            f"{root}/DEFECT/*"
        )
    return GOOD if is_good(folder) else folder


def _masks(layout: _Layout, images: Sequence[str]) -> dict[str, list[str]] | None:
    if not images or not files.exists(layout.masks):
        return None
    masks = _by_folder([each.image for each in list_images(layout.masks)], layout.masks)
    named = _by_folder(images, layout.images)
    found = {
        image: _masks_of(folder, stem, masks, named[folder])
        for folder, stems in named.items()
        for stem, same in stems.items()
        for image in same
    }
    if missing := sorted(image for image, each in found.items() if not each):
        place = dirname(uris.relative(missing[0], layout.images))
        raise ValueError(
            f"no mask for {missing[0]} ({len(missing)} of {len(images)} defective images have "
            f"none); expected {uris.join(layout.masks, place)}/{_stem(missing[0])}_mask.png"
        )
    return found


_ByStem = dict[str, list[str]]  # URIs by name without extension


def _by_folder(found: Iterable[str], root: str) -> dict[str, _ByStem]:
    """URIs by folder below ``root`` and name. Masks and images may differ in a folder's case."""
    result: dict[str, _ByStem] = {}
    for uri in found:
        folder = dirname(uris.relative(uri, root)).casefold()
        result.setdefault(folder, {}).setdefault(_stem(uri), []).append(uri)
    return result


def _masks_of(folder: str, stem: str, masks: dict[str, _ByStem], images: _ByStem) -> list[str]:
    """Masks of one image: NAME_mask, else NAME, else NAME with another suffix, else NAME/*."""
    beside = masks.get(folder, {})
    for wanted in (f"{stem}_mask", stem):
        if wanted in beside:
            return beside[wanted]
    # The mask `1_2_gt` is of the image `1_2` and not of the image `1`, if there are both.
    longer = [other for other in images if other != stem and _extends(other, stem)]
    suffixed = [
        uri
        for name, same in beside.items()
        if _extends(name, stem) and not any(_extends(name, other) for other in longer)
        for uri in same
    ]
    # MVTec LOCO has a folder with several masks for each image.
    below = masks.get(f"{folder}/{stem}".casefold(), {})
    return suffixed or [uri for same in below.values() for uri in same]


def _extends(name: str, stem: str) -> bool:
    """True if the name is the stem, alone or with a suffix."""
    return name.startswith(stem) and (name == stem or name[len(stem)] in _SEPARATORS)


def _stem(image: str) -> str:
    return splitext(basename(uris.path_of(image)))[0]
