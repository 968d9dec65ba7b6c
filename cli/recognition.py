"""Linear classifiers on what a video method knows of clips, one per fold, and how often they are right by video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_zoo.networks.attentive_classifier import AttentiveClassifier, Parts

CLIPS_AT_ONCE = 1024


@dataclass(frozen=True)
class Examples:
    """N clips; their features may be in half precision.

    Attributes:
        statics: vec(S) (N, S).
        dynamics: P (N, D).
        videos: int64 (N,), the video of each.
        labels: int64 (N,), equal within a video.
    """

    statics: Tensor
    dynamics: Tensor
    videos: Tensor
    labels: Tensor

    def chosen(self, rows: Tensor, device: str = "cpu") -> Examples:
        """Those of some rows (n,), on a device."""
        kept = (part[rows].to(device) for part in (self.statics, self.dynamics, self.videos, self.labels))
        return Examples(*kept)


@dataclass(frozen=True)
class Protocol:
    """How classifiers are trained.

    Attributes:
        num_classes: K.
        by: what they read: "both", "statics" or "dynamics".
        epochs: over all videos.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        hidden_size: of g_S and g_P.
        batch_size: videos per step.
        seed: of weights and order.
        averaged: the loss is that of the mean logits of a video's clips, as published; otherwise of each clip.
        device: where.
    """

    num_classes: int
    by: Parts = "both"
    epochs: int = 100
    learning_rate: float = 1e-2
    weight_decay: float = 0.01
    hidden_size: int = 128
    batch_size: int = 32
    seed: int = 0
    averaged: bool = True
    device: str = "cpu"


@dataclass(frozen=True)
class FoldScores:
    """What one classifier reached on videos that it has not seen.

    Attributes:
        name: who or what was tested.
        num_videos: how many.
        num_right: of them.
        accuracy: share of videos.
        balanced_accuracy: its mean over the classes that were tested.
        most_frequent: accuracy of always naming the class with most training videos.
        attention: mean a over clips, 1 for S alone and 0 for P alone.
        rows: int64 (n,), the tested clips among all.
        attention_by_clip: (n,).
    """

    name: str
    num_videos: int
    num_right: int
    accuracy: float
    balanced_accuracy: float
    most_frequent: float
    attention: float
    rows: Tensor
    attention_by_clip: Tensor


def folds_by_actor(actors: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each actor's number with the rows of all others and those of this one; actors int64 (N,)."""
    for actor in actors.unique().tolist():
        yield actor, (actors != actor).nonzero().flatten(), (actors == actor).nonzero().flatten()


def recognize_fold(
    examples: Examples, train: Tensor, test: Tensor, protocol: Protocol, name: str, fold: int
) -> FoldScores:
    """Train on some rows and test on others.

    Args:
        examples: all clips.
        train: int64 (n,), rows of the training clips.
        test: int64 (m,), rows of the tested ones, whose videos are others.
        protocol: of the training.
        name: for the scores.
        fold: its number, so that each has weights and order of its own.
    """
    classifier = train_classifier(examples.chosen(train), replace(protocol, seed=protocol.seed + fold))
    tested = examples.chosen(test)
    logits, attention = classified(classifier, tested, protocol.device)
    return scored(answers_by_video(logits, tested.videos), examples, train, test, name, attention)


def scored(
    answers: Tensor, examples: Examples, train: Tensor, test: Tensor, name: str, attention: Tensor
) -> FoldScores:
    """Scores of answers (V,) for the tested videos by number."""
    from lightning_zoo.metrics.video_votes import labels_by_video, share_right

    known = labels_by_video(examples.labels[train], examples.videos[train])
    truth = labels_by_video(examples.labels[test], examples.videos[test])
    accuracy, balanced = share_right(answers, truth)
    frequent, _ = share_right(truth.new_full((len(truth),), int(known.bincount().argmax())), truth)
    right = int((answers == truth).sum())
    return FoldScores(name, len(truth), right, accuracy, balanced, frequent, attention.mean().item(), test, attention)


def train_classifier(examples: Examples, protocol: Protocol) -> AttentiveClassifier:
    """A classifier, on the protocol's device, trained on all of these examples and nothing else.

    The features' means and deviations are those of the examples, too.
    """
    import torch

    from lightning_zoo.networks.attentive_classifier import AttentiveClassifier

    sizes = examples.statics.shape[1], examples.dynamics.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(protocol.seed)
        classifier = AttentiveClassifier(
            *sizes, protocol.num_classes, mode=protocol.by, hidden_size=protocol.hidden_size
        )
    classifier.to(protocol.device).measure(examples.statics, examples.dynamics)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=protocol.learning_rate, weight_decay=protocol.weight_decay
    )
    generator = torch.Generator().manual_seed(protocol.seed)
    rows_of = rows_by_video(examples.videos)
    for _ in range(protocol.epochs):
        for part in torch.randperm(len(rows_of), generator=generator).split(protocol.batch_size):
            rows = torch.cat([rows_of[video] for video in part.tolist()])
            loss = loss_of(classifier, examples.chosen(rows, protocol.device), averaged=protocol.averaged)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return classifier


def loss_of(classifier: AttentiveClassifier, examples: Examples, *, averaged: bool = True) -> Tensor:
    """Cross-entropy of the mean logits of each video's clips, or, not averaged, of each clip's own; mean over them."""
    from torch.nn.functional import cross_entropy

    from lightning_zoo.metrics.video_votes import labels_by_video, mean_by_video

    logits, _ = classifier(examples.statics, examples.dynamics)
    if not averaged:
        return cross_entropy(logits, examples.labels)
    means, _ = mean_by_video(logits, examples.videos)
    return cross_entropy(means, labels_by_video(examples.labels, examples.videos))


def classified(classifier: AttentiveClassifier, examples: Examples, device: str) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and a (N,) of all clips, on the CPU."""
    import torch

    found: list[Sequence[Tensor]] = []
    with torch.no_grad():
        for rows in torch.arange(len(examples.videos)).split(CLIPS_AT_ONCE):
            part = examples.chosen(rows, device)
            found.append([made.cpu() for made in classifier(part.statics, part.dynamics)])
    logits, attention = (torch.cat(parts) for parts in zip(*found, strict=True))
    return logits, attention


def answers_by_video(logits: Tensor, videos: Tensor) -> Tensor:
    """Class (V,) with the largest mean logit over each video's clips."""
    from lightning_zoo.metrics.video_votes import mean_by_video

    return mean_by_video(logits, videos)[0].argmax(1)


def answers_by_votes(logits: Tensor, videos: Tensor) -> Tensor:
    """Class (V,) that most frames of a video vote for, of logits (N, K) of frames and the video of each (N,).

    The mean probability decides ties.
    """
    from torch.nn.functional import one_hot

    from lightning_zoo.metrics.video_votes import mean_by_video

    votes, probabilities = one_hot(logits.argmax(1), logits.shape[1]), logits.softmax(1)
    shares, chances = (mean_by_video(values.double(), videos)[0] for values in (votes, probabilities))
    # Less than one vote, of however many frames.
    smallest = 1 / videos.unique(return_counts=True)[1][:, None]
    return (shares + 0.5 * smallest * chances).argmax(1)


def recognize_by_frames(
    train: tuple[Tensor, Tensor, Tensor], test: tuple[Tensor, Tensor, Tensor], protocol: Protocol, name: str
) -> FoldScores:
    """The baseline of section 7.4.4: one linear layer on the features of single frames, and votes over a video's.

    Args:
        train: features (N, T, D), labels (N,) and videos (N,) of clips.
        test: the same of other videos' clips.
        protocol: of the training; each frame has a loss of its own.
        name: for the scores.
    """
    import torch

    own = replace(protocol, by="statics", averaged=False)
    classifier = train_classifier(_frames_as_clips(*train), own)
    frames = _frames_as_clips(*test)
    logits, _ = classified(classifier, frames, protocol.device)
    answers = answers_by_votes(logits, frames.videos)
    number = len(train[0])
    labels, videos = (torch.cat([train[place], test[place]]) for place in (1, 2))
    every, nothing = torch.arange(len(labels)), train[0].new_zeros(len(labels), 0)
    clips = Examples(nothing, nothing, videos, labels)
    return scored(answers, clips, every[:number], every[number:], name, torch.full((len(test[0]),), torch.nan))


def rows_by_video(videos: Tensor) -> list[Tensor]:
    """Rows of each video, by its number, of videos int64 (N,)."""
    import torch

    order = videos.argsort(stable=True)
    counts = torch.unique(videos, return_counts=True)[1].tolist()
    return list(order.split(counts))


def _frames_as_clips(features: Tensor, labels: Tensor, videos: Tensor) -> Examples:
    """One example per frame, of the video that its clip is of."""
    frames = features.shape[1]
    flat = features.flatten(0, 1)
    return Examples(flat, flat[:, :0], videos.repeat_interleave(frames), labels.repeat_interleave(frames))
