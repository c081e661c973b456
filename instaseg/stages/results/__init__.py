"""What the stages do with each kind of result: instances, classes, points."""
