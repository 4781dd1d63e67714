"""Classification measured and judged in plain loops."""

import math


def cross_entropy(logits, label, smoothing):
    """-sum of the smoothed target times log softmax, of one sample."""
    largest = max(logits)
    norm = largest + math.log(sum(math.exp(v - largest) for v in logits))
    total = 0.0
    for i, value in enumerate(logits):
        target = smoothing / len(logits) + (1 - smoothing) * (i == label)
        total -= target * (value - norm)
    return total


def measure(ground_truth, answers, classes):
    """top1, top5, the mean recall of classes that occur, and the confusion counts, of lists of labels, best first."""
    confusion = [[0] * classes for _ in range(classes)]
    first = five = 0
    for label, answer in zip(ground_truth, answers, strict=True):
        confusion[label][answer[0]] += 1
        first += answer[0] == label
        five += label in answer[:5]
    recalls = [row[i] / sum(row) for i, row in enumerate(confusion) if sum(row)]
    return first / len(ground_truth), five / len(ground_truth), sum(recalls) / len(recalls), confusion
