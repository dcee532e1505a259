"""What a Django developer would build or use instead of this app. Installed if a row names it in `apps`."""
