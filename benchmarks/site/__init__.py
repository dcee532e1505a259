"""The measured Django site: the app set up as its README says, on the servers that the environment names."""
