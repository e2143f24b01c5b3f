"""Pure incremental models of how a key is used, River-compatible.

Each module holds the compiled formulas of one model and, beside them, the estimator
(``learn_one``, ``score_one``) that uses the same formulas. The fold in ``detector.core``
imports the formulas, so notebooks, documentation and the engine cannot drift apart.
Nothing here reads a clock, a file or the network. All evidence is in nats.
"""
