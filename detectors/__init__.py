"""Images in, anomaly scores out: reading, covariates, backbones, the detector families and how they are saved."""
