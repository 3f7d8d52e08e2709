"""Does BERT learn, and does it learn right?"""

from checks.inspection import Failure

_TRAINING_REMEDY = "run `train` in the image and compare its epochs with docs/decisions/0006-the-fine-tune.md"


def trained(inspection):
    """The bundled fine-tune, run once for the four checks that look at it."""
    if not inspection.training and inspection.training_error is None:
        import train

        settings = train.parse_settings([])

        def on_step(step, steps, loss):
            if step % 10 == 0 or step == steps:
                inspection.on_progress(step, steps, "loss %.3f" % loss)

        try:
            inspection.training = train.fine_tune(settings, on_step=on_step)[0]
        except Exception as error:
            inspection.training_error = "%s: %s" % (type(error).__name__, error)
            raise
    if inspection.training_error is not None:
        raise Failure(detail="the fine-tune broke: %s" % inspection.training_error, remedy=_TRAINING_REMEDY)
    return inspection.training


def check_accuracy(inspection):
    return inspection.judge("training.accuracy", trained(inspection)["accuracy"], "it did not learn", _TRAINING_REMEDY)


def check_negated(inspection):
    detail = "it counts words and does not attend to the negation"
    return inspection.judge("training.negated", trained(inspection)["negated"], detail, _TRAINING_REMEDY)


def check_loss(inspection):
    return inspection.judge("training.loss", trained(inspection)["loss"], "the loss stays high", _TRAINING_REMEDY)


def check_seconds(inspection):
    remedy = "is the machine busy, or are its cores limited? `docker stats` shows it"
    return inspection.judge("training.seconds", trained(inspection)["seconds"], "it trains too slowly", remedy)
