"""Images to work on: synthetic surfaces (`sdie_fast.data.synthetic`)."""
