"""Linear classifiers on statics and dynamics: training against a slow loop, folds, and votes of frames."""

import pytest
import torch
from torch.nn import functional as F

from lightning_zoo.cli import recognition
from lightning_zoo.cli.recognition import (
    Examples,
    Protocol,
    answers_by_votes,
    folds_by_actor,
    loss_of,
    recognize_by_frames,
    recognize_fold,
    rows_by_video,
    train_classifier,
)
from lightning_zoo.cli.recognition_report import summary
from lightning_zoo.networks.attentive_classifier import AttentiveClassifier


def clips(number=24, classes=3, actors=3, seed=0, told=2.0):
    """Clips whose features tell a little of the class, three to a video; and the actor of each."""
    generator = torch.Generator().manual_seed(seed)
    videos = torch.arange(number) % (number // 3)
    labels, who = videos % classes, videos // classes % actors
    centres = told * torch.randn(classes, 20, generator=generator)
    features = centres[labels] + torch.randn(number, 20, generator=generator)
    return Examples(features[:, :14], features[:, 14:], videos, labels), who


def classifier(examples, **options):
    torch.manual_seed(0)
    network = AttentiveClassifier(14, 6, 3, hidden_size=4, **options)
    network.measure(examples.statics, examples.dynamics)
    return network


def test_logits_are_averaged_before_the_loss_video_by_video():
    examples, _ = clips()
    network = classifier(examples)
    total = 0.0
    for video in range(8):
        logits = [
            network(examples.statics[row : row + 1], examples.dynamics[row : row + 1])[0][0]
            for row in range(24)
            if examples.videos[row] == video
        ]
        mean = (logits[0] + logits[1] + logits[2]) / 3
        total = total + mean.exp().sum().log() - mean[video % 3]
    loss, expected = loss_of(network, examples), total / 8
    torch.testing.assert_close(loss, expected)
    own = F.cross_entropy(network(examples.statics, examples.dynamics)[0], examples.labels)
    torch.testing.assert_close(loss_of(network, examples, averaged=False), own)
    assert own - loss > 1e-4, "averaged after the loss it would be more"
    parameters = list(network.parameters())
    gradients = (torch.autograd.grad(each, parameters) for each in (loss, expected))
    for found, wanted in zip(*gradients, strict=True):
        assert wanted.abs().max() > 1e-6
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


def test_training_is_steps_on_whole_videos(monkeypatch):
    examples, _ = clips()
    seen = []
    monkeypatch.setattr(
        recognition, "loss_of", lambda net, part, averaged: seen.append(part) or loss_of(net, part, averaged=averaged)
    )
    protocol = Protocol(3, epochs=2, batch_size=3, hidden_size=4, learning_rate=0.01)
    trained = train_classifier(examples, protocol)
    assert [len(part.videos.unique()) for part in seen] == [3, 3, 2] * 2
    assert all((part.videos.bincount(minlength=8) % 3 == 0).all() for part in seen), "all clips of a video at once"
    first, second = ([video for part in seen[n : n + 3] for video in part.videos.unique().tolist()] for n in (0, 3))
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second
    torch.testing.assert_close(trained.scales["statics"].mean, examples.statics.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained.scales["dynamics"].mean, examples.dynamics.mean(0), rtol=1e-4, atol=1e-5)
    again = train_classifier(examples, protocol)
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))


def test_it_learns_what_is_there():
    examples, actors = clips(90, told=3.0)
    folds = list(folds_by_actor(actors))
    protocol = Protocol(3, epochs=60, hidden_size=4, learning_rate=0.02)
    scores = [recognize_fold(examples, train, test, protocol, str(actor), actor) for actor, train, test in folds]
    whole = summary(scores)
    assert whole["num_videos"] == 30
    assert whole["all_videos"] == sum(score.num_right for score in scores) / 30 > 0.9
    values = torch.tensor([score.accuracy for score in scores])
    assert whole["accuracy"] == pytest.approx(values.mean().item())
    assert whole["accuracy_deviation"] == pytest.approx(values.std().item(), abs=1e-6)
    assert all(0 < score.attention < 1 and score.attention_by_clip.shape == score.rows.shape for score in scores)
    assert summary(scores[:1])["accuracy_deviation"] is None


def test_folds_are_disjoint_by_actor_and_cover_all():
    examples, actors = clips(27)
    tested = []
    for actor, train, test in folds_by_actor(actors):
        assert set(actors[test].tolist()) == {actor}
        assert actor not in actors[train].tolist()
        assert not set(examples.videos[train].tolist()) & set(examples.videos[test].tolist())
        assert sorted(train.tolist() + test.tolist()) == list(range(27))
        tested += test.tolist()
    assert sorted(tested) == list(range(27))


@pytest.mark.parametrize("what", ["labels", "features"])
def test_nothing_of_the_tested_fold_is_seen_in_training(monkeypatch, what):
    trained = []
    monkeypatch.setattr(
        recognition, "train_classifier", lambda *given: trained.append(train_classifier(*given)) or trained[-1]
    )
    examples, actors = clips(27)
    _, train, test = list(folds_by_actor(actors))[1]
    parts = [examples.statics.clone(), examples.dynamics.clone(), examples.videos, examples.labels.clone()]
    if what == "labels":
        parts[3][test] = (parts[3][test] + 1) % 3
    else:
        parts[0][test] += 100
        parts[1][test] *= -50
    protocol = Protocol(3, epochs=3, hidden_size=4, learning_rate=0.05)
    scores = [recognize_fold(each, train, test, protocol, "", 0) for each in (examples, Examples(*parts))]
    first, second = (network.state_dict() for network in trained)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert scores[0].most_frequent == pytest.approx(1 / 3)
    if what == "labels":
        assert scores[0].attention == scores[1].attention
        assert scores[0].accuracy != scores[1].accuracy
    changed = Examples(*parts[:3], examples.labels.roll(1))
    recognize_fold(changed, train, test, protocol, "", 0)
    assert any(not torch.equal(value, trained[2].state_dict()[name]) for name, value in first.items())


def test_the_most_frequent_class_is_that_of_the_training_videos():
    videos, labels = torch.arange(7), torch.tensor([0, 1, 1, 0, 0, 0, 1])
    examples = Examples(torch.randn(7, 14), torch.randn(7, 6), videos, labels)
    score = recognize_fold(examples, torch.arange(3), torch.arange(3, 7), Protocol(2, epochs=1), "", 0)
    assert score.most_frequent == 0.25


def test_most_frames_decide_and_probabilities_where_they_are_even():
    votes = torch.tensor([[9.0, 0, 0], [0, 0.1, 0], [0, 0.1, 0], [0, 3.0, 0], [1.0, 0, 0], [0, 0, 0.5]])
    assert answers_by_votes(votes, torch.tensor([0, 0, 0, 1, 1, 1])).tolist() == [1, 1]
    assert votes[:3].mean(0).argmax() == 0, "the mean would have said otherwise"
    assert answers_by_votes(votes[[3, 0, 4, 1, 5, 2]], torch.tensor([1, 0, 1, 0, 1, 0])).tolist() == [1, 1]


def test_all_frames_of_a_video_vote_together():
    clips = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 1, 1]])
    logits = 5 * F.one_hot(clips.flatten(), 2).float()
    assert answers_by_votes(logits, torch.zeros(9, dtype=torch.int64)).tolist() == [1]
    assert answers_by_votes(logits, torch.arange(3).repeat_interleave(3)).tolist() == [0, 1, 1]


def test_frames_are_classified_one_by_one_and_answer_by_video():
    generator = torch.Generator().manual_seed(0)
    videos = torch.arange(40) // 2
    labels = videos % 4
    features = (torch.eye(4).repeat(1, 3)[labels][:, None] * 2 + torch.randn(40, 5, 12, generator=generator)).half()
    protocol = Protocol(4, epochs=30, learning_rate=0.02)
    train, test = ((features[rows], labels[rows], videos[rows]) for rows in (slice(30), slice(30, None)))
    score = recognize_by_frames(train, test, protocol, "frames")
    assert score.num_videos == 5
    assert score.accuracy > 0.8
    other = recognize_by_frames(train, (test[0], (test[1] + 1) % 4, test[2]), protocol, "")
    assert other.accuracy < 0.2


def test_rows_of_each_video():
    found = rows_by_video(torch.tensor([5, 2, 5, 9, 2]))
    assert [rows.tolist() for rows in found] == [[1, 4], [0, 2], [3]]


def test_weight_decay_shrinks_what_nothing_holds_up():
    examples, _ = clips()
    sizes = []
    for decay in (0.0, 20.0):
        trained = train_classifier(examples, Protocol(3, epochs=20, hidden_size=4, weight_decay=decay))
        sizes.append(trained.classes.weight.norm())
    assert sizes[1] < 0.5 * sizes[0]
