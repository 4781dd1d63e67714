"""Train a detector on labels and on what another detector, its teacher, predicts for the same augmented images.

python tools/teach.py --teacher W --data D --out R FLAGS OF DETECT TRAIN
The teacher is any detector with the student's strides and at least its classes, such as picodet_s_320. Its predictions
add three terms to the student's loss: class scores everywhere and boxes where the teacher is confident (Zheng et al.,
2022), and the correlation of feature maps through a 1x1 convolution (Cao et al., 2022). The weights that result are
those of the student alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.callbacks import Callback
from detect.cli.parser import parse
from detect.convert.open import open_model
from detect.errors import UserError, in_one_line
from detect.hub import resolve
from detect.models.losses.classes import cross_entropy
from detect.registry import register
from detect.training.setup import train
from detect.types import Batch, HeadOutput, LossTerm, Target

CONFIDENT = 0.1  # score of the teacher from which its box is a target
FEATURES = 3.0  # weight of the distance between feature maps


class TaughtLosses(nn.Module):
    """The student's loss on the labels, and its distance from the teacher. It takes the place of `Trainer.losses`.

    Args:
        student: the model that is trained.
        teacher: a detector for inference.

    Raises:
        UserError: the teacher lacks a class, or predicts at other positions.
    """

    def __init__(self, student: Any, teacher: Any):
        super().__init__()
        self.student, self.teacher = student, [teacher]  # in a list: its weights are not this module's
        names = {name: label for label, name in enumerate(teacher.metadata.names)}
        if missing := [name for name in student.metadata.names if name not in names]:
            raise UserError(f"the teacher has no class {missing[0]}: choose another teacher, or other data")
        self.labels = [names[name] for name in student.metadata.names]
        image = student.dummy_input(student.metadata.size)
        with torch.no_grad():
            own, other = student.eval().features(image), teacher.features(image)
            own_priors, priors = (m.forward_head(x).priors for m, x in ((student, own), (teacher, other)))
        if not torch.equal(own_priors.centers, priors.centers[: len(own_priors.centers)]):
            raise UserError("the teacher predicts at other positions than the student: both need the same strides")
        self.project = nn.ModuleList(nn.Conv2d(a.shape[1], b.shape[1], 1) for a, b in zip(own, other, strict=False))

    def forward(self, images: Tensor, targets: Sequence[Target]) -> tuple[list[str], Tensor, Tensor]:
        """See `detect.training.loop.Losses`."""
        maps = self.student.features(images, targets)
        raw = self.student.forward_head(maps, targets)
        terms: dict[str, LossTerm] = self.student.loss(raw, targets)
        with torch.no_grad():
            teacher_maps = self.teacher[0].features(images)
            predictions = self.teacher[0].candidates(self.teacher[0].forward_head(teacher_maps))
            boxes, scores = (x.float() for x in predictions)
        count = raw.logits.shape[1]  # a teacher may have coarser levels besides
        terms |= self.output_terms(raw, boxes[:, :count], scores[:, :count, self.labels])
        maps = [project(x) for project, x in zip(self.project, maps, strict=True)]
        distances = torch.stack([correlation_loss(*pair) for pair in zip(maps, teacher_maps, strict=False)])
        terms["teacher_features"] = LossTerm(FEATURES * distances.sum(), distances.new_tensor(len(distances)))
        return (
            list(terms),
            torch.stack([t.total for t in terms.values()]),
            torch.stack([t.count for t in terms.values()]),
        )

    def output_terms(self, raw: HeadOutput, boxes: Tensor, scores: Tensor) -> dict[str, LossTerm]:
        """The distance of the student's predictions from the teacher's boxes (B, A, 4) and scores (B, A, C)."""
        loss, head = self.student.config.loss, self.student.head
        best = scores.amax(-1)
        positive = torch.where(best > CONFIDENT)
        outputs, targets, weight = raw.at(positive), boxes[positive], best[positive]
        box = self.student.box_loss(head.boxes(outputs), targets)
        regression = head.regression_loss(outputs, targets)
        classes = cross_entropy(raw.logits, scores, torch.ones_like(best, dtype=torch.bool))
        return {
            "teacher_box": LossTerm(loss.box * (weight * box).sum(), weight.sum()),
            "teacher_regression": LossTerm(loss.regression * (weight * regression).sum(), weight.sum()),
            "teacher_classes": LossTerm(loss.classes * classes, weight.sum()),
        }


def correlation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """One minus the correlation of each channel over a batch of feature maps (B, C, H, W), mean over the channels."""
    a, b = (standardized(x.float()) for x in (predicted, target))
    return mse_loss(a, b) / 2


def standardized(maps: Tensor) -> Tensor:
    """Feature maps (B, C, H, W) whose channels have mean 0 and variance 1 over the batch."""
    mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), keepdim=True, correction=0)
    return (maps - mean) * (variance + 1e-5).rsqrt()


class Teach(Callback):
    """Puts `TaughtLosses` into a run, and trains its 1x1 convolutions with an optimizer of their own.

    Args:
        teacher: a detector.
    """

    def __init__(self, teacher: Any):
        self.teacher: Any = teacher
        self.state: dict[str, Any] = {}
        self.losses: TaughtLosses | None = None

    def on_fit_start(self, trainer: Any) -> None:
        """Make the losses, or take them from the checkpoint that the run resumes from."""
        if trainer.ranks.world > 1:
            raise UserError("a teacher teaches in one process: start this without torchrun")
        teacher = self.teacher.for_inference(trainer.device, trainer.dtype)
        self.losses = TaughtLosses(trainer.run.model, teacher).to(trainer.device)
        self.optimizer = torch.optim.AdamW(self.losses.project.parameters(), lr=1e-3)
        if self.state:
            self.losses.project.load_state_dict(self.state["project"])
            self.optimizer.load_state_dict(self.state["optimizer"])

    def on_train_batch_start(self, trainer: Any, batches: Sequence[Batch]) -> None:
        """Replace the loss, which a run makes anew whenever it unfreezes a stage."""
        trainer.losses = self.losses

    def on_before_optimizer_step(self, trainer: Any) -> None:
        """Step the convolutions too: their gradients are ready."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The convolutions and their optimizer."""
        if self.losses is None:  # a resumed run notes changed settings before it begins
            return self.state
        return {"project": dict(self.losses.project.state_dict()), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the state until the run begins."""
        self.state = state


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Train. Exit status 2 is the user's mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--teacher", required=True, help="weights of the teacher: a file, or a name that detect weights lists"
    )
    given, flags = parser.parse_known_args(arguments)
    teacher = open_model(resolve(given.teacher))
    register("callback", "teach")(lambda: Teach(teacher))
    train(parse("train", [*flags, "--callbacks", "teach"]))


if __name__ == "__main__":
    sys.exit(main())
