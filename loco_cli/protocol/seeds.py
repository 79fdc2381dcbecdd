"""Which seeds pictures are made from: those from 0 on choose, later ones judge."""

FIRST_JUDGED = 1000
MAX_SEEDS = FIRST_JUDGED  # with more, pictures would be judged that an edit was chosen by
