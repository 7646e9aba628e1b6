"""What the daemons' endpoints share: routes, big answers in slices, help, figures, verbosity."""
