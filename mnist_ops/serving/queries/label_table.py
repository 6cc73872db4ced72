"""The labels that a reviewer chooses from: those of the champion's label table."""

from mnist_ops.domain.errors import ObjectMissing
from mnist_ops.pipeline import Pipeline
from mnist_ops.steps.artifacts.bundles import read_card

# By the digest of the bundle, which never changes; a process sees few champions.
_NAMES: dict[str, tuple[str, ...]] = {}


def champion_labels(steps: Pipeline) -> tuple[str, ...]:
    """The names of the champion's classes, by index; none without a champion, or without its bundle.

    Raises:
        Damaged: its bundle in the store is not the one that was released.
    """
    champion = steps.adapters.models.champion(steps.settings.model_name)
    if champion is None:
        return ()
    if champion.digest not in _NAMES:
        try:
            names = read_card(steps.adapters.objects, champion).get("labels")
        except ObjectMissing:
            return ()  # a reviewer can go on with the labels of the record's own prediction
        _NAMES[champion.digest] = tuple(map(str, names)) if isinstance(names, list) else ()
    return _NAMES[champion.digest]
