"""The Django site that is measured: the app as its README says to set it up, on what the environment names."""
