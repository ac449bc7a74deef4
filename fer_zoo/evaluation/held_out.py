"""What faces that are evaluated on had to do with the model, as far as evidence tells."""

from fer_zoo.data import FaceDataset
from fer_zoo.evidence import Evidence, Faces
from fer_zoo.models import Classifier, Ensemble


def not_held_out(model: Classifier, data: FaceDataset) -> str:
    """Return what these faces, or others of their split, chose of a model; empty if nothing."""
    faces = data.faces

    def same(other: Faces | None) -> bool:
        if other is None:
            return False
        split = faces.split is not None and faces.split == other.split
        names = {one.name.partition("[")[0] for one in (faces, other)}
        return other.among(data.fingerprint, data.fingerprints) or (split and len(names) == 1)

    known, told = model.evidence, []
    for part in model.members if isinstance(model, Ensemble) else [model]:
        training = part.evidence.training
        told += [f"trained {part.name}"] if training and same(training.faces) else []
        told += (
            [f"chose the epoch of {part.name}"] if training and same(training.validation) else []
        )
    if known.fusion_fit and same(known.fusion_fit.faces):
        told.append("chose the fusion" if known.fusion_fit.instead else "fitted the fusion")
    told += (
        ["fitted the temperature"] if known.calibration and same(known.calibration.faces) else []
    )
    return f"not held out: these faces, or others of their split, {', '.join(told)}" if told else ""


def selections(known: Evidence) -> list[str]:
    """Return how the epoch, the fusion or the seed was chosen, as far as that is known."""
    chosen = [known.training.selection] if known.training else []
    if fit := known.fusion_fit:
        chosen.append(f"fusion {'chosen' if fit.instead else 'fitted'} on {fit.faces}")
    chosen += [score.selection for score in known.scores]
    return list(dict.fromkeys(filter(None, chosen)))
