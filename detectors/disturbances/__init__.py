"""What a changed station does to photographs, and how scores and covariates answer."""
