"""
Prompts and seeds: those that choose an edit, and those that judge it.

An edit is judged on prompts and seeds that played no part in making it. `wordings` has the
templates, `seeds` the seeds, and `everyday` the bank of everyday prompts.

    step                          templates        seeds            everyday prompts
    localize: find the layers     LOCALIZE         0, 1, ...        –
    edit: solve for the weights   EDIT, PRESERVE   –                16 preserved
    edit: choose the strength     VALIDATE         100, 101         –
    edit: preview the drift       –                –                16 others
    evaluate: judge               FORGET, KEEP     1000, 1001, ...  4 others

`LOCALIZE` stands for `LOCALIZE_TEMPLATES`, and so on. The first four steps choose, and the last one
judges. It shares no template, seed or everyday prompt with the others. The steps that choose have
two overlaps. LOCALIZE_TEMPLATES and EDIT_TEMPLATES have common entries. A localization with more
than a hundred seeds shares two seeds with the choice of the strength, which uses other templates.

A recipe may have its own prompts. Those under `source` and `target` choose, and those under
`evaluate` judge; the author has to keep them apart.
"""
