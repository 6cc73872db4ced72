"""A second model, made by the steps themselves: quicker than one more run of the whole DAG."""

from datetime import UTC, datetime

from mnist_ops.domain.champions import Promotion
from mnist_ops.steps.evaluate import evaluate
from mnist_ops.steps.promote import promote_version
from mnist_ops.steps.release import release
from mnist_ops.steps.train import train
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.wiring import Adapters


def promote_another(adapters: Adapters, name: str, seed: int) -> str:
    """Train on the newest data set with another seed, release that, and make it champion; its digest."""
    objects, models = adapters.objects, adapters.models
    config = TrainingConfig(epochs=3, batch_size=16, seed=seed)
    evaluation = evaluate(
        train(adapters.datasets.newest_dataset(), objects=objects, config=config, device="cpu"),
        objects=objects,
        models=models,
        model_name=name,
        load=adapters.load_classifier,
    )
    verdict = release(
        evaluation,
        objects=objects,
        models=models,
        model_name=name,
        gate=adapters.settings.gate,
        now=lambda: datetime.now(UTC),
    )
    # On so few digits the gate finds it no better than by chance, which must not decide about what comes
    # after: as `models promote --force --why` does it.
    (model,) = [model for model in models.models(name) if model.bundle == verdict.bundle]
    promotion = Promotion(datetime.now(UTC), "the tests", "a second champion is needed")
    assert promote_version(model, models=models, promotion=promotion, force=True)
    return verdict.bundle.digest
