"""Measure the accuracy of the estimates: `evaluate` scores the models on labeled material.

::

    evaluation = evaluate(["UTKFace", "labeled.csv", "clips"], Settings(fps=2))
    evaluation.to_dict()      # every figure, with its number and interval
    evaluation.save("docs")   # accuracy.json, accuracy.md, accuracy-gender.png, accuracy-age.png

`labels` reads the material, `scoring` analyzes and matches it, `metrics` defines the figures, `page` and
`charts` present them. `calibrate` fits the calibration of a set of models to labeled faces: `views` shows
them as videos do (`filmed`), `fitting` fits.
"""

from analyzer.evaluation.scoring import Evaluation, check_out, evaluate

__all__ = ["Evaluation", "check_out", "evaluate"]
