"""The order of conversations in a stage: a pure function of seed, stage and step."""
