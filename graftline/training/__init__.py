"""Learning: the loop, phases, schedules, augmentation, checkpoints."""
