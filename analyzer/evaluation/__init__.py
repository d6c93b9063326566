"""Measure the accuracy of the estimates: `evaluate` scores the models on labeled material.

::

    evaluation = evaluate(["UTKFace", "labeled.csv", "clips"], Settings(fps=2))
    evaluation.to_dict()      # every figure, with its number and interval
    evaluation.save("docs")   # accuracy.json, accuracy.md, accuracy-gender.png, accuracy-age.png

`calibrate` fits the calibration of a set of models on labeled faces, and writes it beside the user's model.

`labels` reads the material, `scoring` analyzes and matches it, `metrics` defines the figures, `page` and
`charts` present them.
"""

from analyzer.evaluation.calibrate import Calibrated, calibrate
from analyzer.evaluation.scoring import Evaluation, check_out, evaluate

__all__ = ["Calibrated", "Evaluation", "calibrate", "check_out", "evaluate"]
