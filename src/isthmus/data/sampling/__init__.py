"""Which conversation stands where in a stage: a pure function of seed, stage and step."""
