"""How right the estimates are: `evaluate` scores the networks on labeled material.

::

    evaluation = evaluate(["UTKFace", "labeled.csv", "clips"], Settings(fps=2))
    evaluation.to_dict()      # every figure, with its number and interval
    evaluation.save("docs")   # accuracy.json, accuracy.md, accuracy-gender.png, accuracy-age.png

`labels` reads the material, `scoring` analyses and matches it, `metrics` defines the figures, `page` and
`charts` show them.
"""

from analyzer.evaluation.scoring import Evaluation, check_out, evaluate

__all__ = ["Evaluation", "check_out", "evaluate"]
