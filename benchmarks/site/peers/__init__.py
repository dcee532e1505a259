"""What a Django developer would build or take instead of this app. Installed where a row names it in `apps`."""
