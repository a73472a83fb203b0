# SPDX-License-Identifier: Apache-2.0
"""Writes metric_cases.json: random series with ties and what SciPy, scikit-learn and sentence-transformers make of them.

    python make_metric_cases.py > metric_cases.json        (numpy, scipy, scikit-learn, sentence-transformers 6)
"""

import json

import numpy as np
from scipy import stats
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

random = np.random.default_rng(20)
correlations, rankings = [], []
for count, steps in [(2, 1000), (3, 1000), (17, 5), (50, 1000), (200, 20)]:
    x = np.round(random.normal(size=count) * steps) / steps
    y = np.round((x + random.normal(size=count)) * steps) / steps + 100
    correlations.append({"x": x.tolist(), "y": y.tolist(),
                         "pearson": float(stats.pearsonr(x, y).statistic),
                         "spearman": float(stats.spearmanr(x, y).statistic)})

# Scores on a coarse grid tie often; sentence-transformers parts ties, so its thresholds are asked for distinct scores.
for count, share, steps in [(2, 0.5, None), (9, 0.3, None), (64, 0.7, None), (300, 0.68, None),
                            (40, 0.5, 4), (300, 0.2, 10)]:
    labels = (random.random(count) < share).astype(int)
    labels[:2] = [0, 1]
    scores = labels * 0.8 + random.normal(size=count)
    case = {"labels": labels.tolist()}
    if steps is not None:
        scores = np.round(scores * steps) / steps
    else:
        accuracy, threshold = BinaryClassificationEvaluator.find_best_acc_and_threshold(scores, labels, True)
        case |= {"accuracy": float(accuracy), "accuracy_threshold": float(threshold)}
        f1, _, _, threshold = BinaryClassificationEvaluator.find_best_f1_and_threshold(scores, labels, True)
        case |= {"f1": float(f1), "f1_threshold": float(threshold)}
    case |= {"scores": scores.tolist(), "auc": float(roc_auc_score(labels, scores))}
    rankings.append(case)

random = np.random.default_rng(21)
classes = []
for count, number in [(1, 2), (5, 2), (200, 2), (40, 3), (300, 7)]:
    labels = random.integers(0, number, count)
    predicted = np.where(random.random(count) < 0.6, labels, random.integers(0, number, count))
    classes.append({"labels": labels.tolist(), "predicted": predicted.tolist(),
                    "accuracy": float(accuracy_score(labels, predicted)),
                    "matthews": float(matthews_corrcoef(labels, predicted))})
    if number == 2:
        classes[-1]["f1"] = float(f1_score(labels, predicted, zero_division=0))

print(json.dumps({"correlations": correlations, "rankings": rankings, "classes": classes}, separators=(",", ":")))
