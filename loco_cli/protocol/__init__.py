"""
The prompts and seeds that choose an edit, and those that judge it.

An edit is judged on pictures that had no part in its making: other wordings, other seeds, other
everyday prompts. `wordings` has the templates, `seeds` the seeds, `everyday` the bank.

    step                          templates        seeds            everyday prompts
    localize: find the layers     LOCALIZE         0, 1, ...        –
    edit: solve for the weights   EDIT, PRESERVE   –                16 that are preserved
    edit: choose the strength     VALIDATE         100, 101         –
    edit: preview its drift       –                –                16 that are not preserved
    evaluate: judge               FORGET, KEEP     1000, 1001, ...  4 of neither

The first four choose, the last one judges. Nothing that chooses is used to judge. Among those that
choose, LOCALIZE and EDIT have templates in common, and a localization with more than a hundred
seeds has two in common with the choice of the strength, whose templates are others.

A recipe may name prompts of its own: those under `source` and `target` choose, those under
`evaluate` judge, and it is up to its author that they differ.
"""
