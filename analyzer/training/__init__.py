"""Train models for gender and age from labeled faces: `cli.py train`.

A *recipe* (`recipes`) is a model and how it is trained. `sets` reads labeled pictures and what their
licenses allow, `dataset` crops their faces with the product's own code and divides them, `augment` varies the
crops, `loop` trains, `export` writes an ONNX file with its description, `card` measures what came out, and
`train` does all of it.

PyTorch is imported here alone, inside functions: everything else works without it.
"""
